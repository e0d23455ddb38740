"""A search engine of your own in place of ours: SQLite's full-text search over a corpus, in thirty lines.

    python examples/own_retriever.py
    PYTHONPATH=examples exsearch search own_retriever:world "Who designed the bridge?"

Whatever has a `fingerprint` and a `search` can be searched by an agent. A recipe names what makes one as `module:name`:
data.index = "own_retriever:world". Here it is compared with our BM25: how often is a question's gold passage found?
"""

import argparse
import hashlib
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import exsearch as xs


class FullText:
    """Passages in SQLite's full-text index, in memory."""

    def __init__(self, passages: Iterable[xs.Passage]) -> None:
        """Index the passages."""
        self._database = sqlite3.connect(
            ":memory:", check_same_thread=False
        )  # an agent searches in a thread of its own
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, title, text, tokenize='porter')")
        content = hashlib.sha256()
        for passage in passages:
            row = (passage.id, passage.title, passage.text)
            self._database.execute("INSERT INTO passages VALUES (?, ?, ?)", row)
            content.update(repr(row).encode())
        # Equal fingerprints must mean equal hits: trajectories and scores are kept with it.
        self.fingerprint = f"fts5-{content.hexdigest()[:16]}"

    def search(self, queries: list[str], k: int) -> list[list[xs.Hit]]:
        """Return at most `k` hits for each query, best first."""
        return [self._search(query, k) for query in queries]

    def _search(self, query: str, k: int) -> list[xs.Hit]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        ranked = "SELECT id, title, text, bm25(passages) FROM passages WHERE passages MATCH ? ORDER BY 4 LIMIT ?"
        rows = self._database.execute(ranked, (words, k)) if words else ()
        return [xs.Hit(xs.Passage(*passage), -score, rank) for rank, (*passage, score) in enumerate(rows, start=1)]


def world() -> FullText:
    """Return the search engine that a recipe can name, over the built-in world."""
    return FullText(xs.World(seed=1, passages=2000).passages())


def recall(retriever: xs.Retriever, questions: list[xs.Question], k: int) -> float:
    """Return the share of questions of which a gold passage is among the first `k` hits."""
    found = retriever.search([question.text for question in questions], k)
    pairs = zip(questions, found, strict=True)
    return sum(any(hit.passage.id in question.gold_passages for hit in hits) for question, hits in pairs) / len(found)


def main() -> None:
    """Compare both on the same questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/own-retriever"), help="folder for the index of ours")
    parser.add_argument("--passages", type=int, default=2000, help="of the world")
    args = parser.parse_args()
    made = xs.World(seed=1, passages=args.passages)
    questions = list(made.questions("test", 200, hops=[1]))
    retrievers = {
        "SQLite": FullText(made.passages()),
        "ours": xs.build_index(made.passages(), "bm25", args.out / "index"),
    }
    for name, retriever in retrievers.items():
        print(
            f"{name:>7}: gold passage among the first 3 for {recall(retriever, questions, 3):.0%} of {len(questions)}"
        )


if __name__ == "__main__":
    main()
