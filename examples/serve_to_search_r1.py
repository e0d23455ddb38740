"""Serve an index to Search-R1: the retrieval server that its trainer and its agents ask, from a corpus of your own.

    python examples/serve_to_search_r1.py --keep

Search-R1 posts the queries of a whole batch to /retrieve and reads documents with scores. The same port speaks to verl,
SkyRL, ColBERT's and DSPy's clients, R1-Searcher, ReSearch and ZeroSearch (docs/reference/wire-formats.md). To run the
server on its own: `exsearch serve retrieval INDEX`. It needs the extra `serve`.
"""

import argparse
import json
import urllib.request
from pathlib import Path
from typing import Any

import exsearch as xs


def retrieve(url: str, queries: list[str], topk: int) -> list[list[dict[str, Any]]]:
    """Ask as Search-R1's rollouts do; return the documents with their scores for each query."""
    body = json.dumps({"queries": queries, "topk": topk, "return_scores": True}).encode()
    request = urllib.request.Request(f"{url}/retrieve", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        documents: list[list[dict[str, Any]]] = json.load(response)["result"]
    return documents


def main() -> None:
    """Build an index, serve it and ask it once; keep it running with --keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/served"), help="folder for the index")
    parser.add_argument("--passages", type=int, default=1000, help="number of passages of the built-in world")
    parser.add_argument("--port", type=int, default=0, help="port of the server; 0 chooses a free one")
    parser.add_argument("--keep", action="store_true", help="serve until Enter is pressed")
    args = parser.parse_args()

    world = xs.World(seed=1, passages=args.passages)
    xs.build_index(world.passages(), "bm25", args.out / "index")
    questions = list(world.questions("test", 2, hops=[1]))
    with xs.serve(args.out / "index", port=args.port) as url:
        print(f"Start Search-R1's trainer with: retriever.url={url}/retrieve")
        results = retrieve(url, [question.text for question in questions], topk=3)
        for question, documents in zip(questions, results, strict=True):
            print(f"\n{question.text}")
            for entry in documents:
                title, text = entry["document"]["contents"].split("\n", 1)
                print(f"  {entry['score']:5.2f}  {title}  {text[:70]} ...")
        if args.keep:
            input("\nServing. Press Enter to stop.")


if __name__ == "__main__":
    main()
