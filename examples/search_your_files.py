"""Search a folder of your own documents, and let a model answer from them.

    python examples/search_your_files.py docs "Which seeds make a run reproducible?"
    python examples/search_your_files.py docs "Which seeds make a run reproducible?" --run runs/quickstart

HTML, Markdown, text, PDF and other files become passages of at most a hundred words. Without a run, the passages found
are printed; with one, the queries of its best model, the facts that the model records, and its answer.
"""

import argparse
from pathlib import Path

import exsearch as xs


def main() -> None:
    """Index the folder, then search it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of documents")
    parser.add_argument("question")
    parser.add_argument("--run", type=Path, help="run whose best model answers, with the settings of its training")
    parser.add_argument("--index", type=Path, default=Path("runs/your-files"), help="folder for the index")
    args = parser.parse_args()

    index = xs.build_index(xs.read_documents(args.folder), "bm25", args.index)
    if args.run is None:
        [hits] = index.search([args.question], k=3)
        for hit in hits:
            print(f"{hit.rank}. {hit.passage.id}: {hit.passage.text}\n")
        return
    run = xs.Run(args.run)
    with xs.load_agent(run.checkpoint(), index, run.config.agent, rollout=xs.RolloutConfig(in_flight=1)) as agent:
        stream = agent.stream(args.question)
        for step in stream:
            print(f"search  {step.query}")
            print(f"read    {', '.join(hit.passage.id for hit in step.hits)}")
            print(f"record  {step.evidence}")
        print(f"answer  {stream.answer or stream.trajectory.stop_reason}")


if __name__ == "__main__":
    main()
