"""Search a folder of your own texts, and let a model answer from them.

    python examples/search_your_files.py docs "Which seeds make a run reproducible?"
    python examples/search_your_files.py docs "Which seeds make a run reproducible?" --run runs/quickstart

Every .txt and .md file becomes passages of about a hundred words. Without a run, the passages found are printed; with
one, the queries of its best model, the facts that the model records, and its answer.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import exsearch as xs

WORDS = 100
"""Words per passage."""


def passages(folder: Path) -> Iterator[xs.Passage]:
    """Yield the passages of all text files in a folder and below, each with the name of its file as title."""
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md")):
        words = file.read_text(encoding="utf-8", errors="replace").split()
        name = file.relative_to(folder).as_posix()
        for start in range(0, len(words), WORDS):
            yield xs.Passage(f"{name}:{start}", name, " ".join(words[start : start + WORDS]))


def main() -> None:
    """Index the folder, then search it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with .txt and .md files")
    parser.add_argument("question")
    parser.add_argument("--run", type=Path, help="run whose best model answers, with the settings of its training")
    parser.add_argument("--index", type=Path, default=Path("runs/your-files"), help="folder for the index")
    args = parser.parse_args()

    index = xs.build_index(passages(args.folder), "bm25", args.index)
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
