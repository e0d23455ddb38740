"""A search engine of your own instead of ExSearch's: SQLite's full-text search over a corpus, in thirty lines.

    python examples/own_retriever.py
    PYTHONPATH=examples exsearch search own_retriever:world "Who designed the bridge?"

An agent can search any object that has a `fingerprint` and a `search`. A recipe names the function that returns it as
`module:name`: data.index = "own_retriever:world". The script compares it with ExSearch's BM25: how often do the first
three hits contain a question's gold passage?
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
        # An agent searches in a thread of its own.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, title, text, tokenize='porter')")
        content = hashlib.sha256()
        for passage in passages:
            row = (passage.id, passage.title, passage.text)
            self._database.execute("INSERT INTO passages VALUES (?, ?, ?)", row)
            content.update(repr(row).encode())
        # Trajectories and scores record the fingerprint: equal ones must mean equal hits.
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
    """Return the retriever that a recipe can name: a search engine for the built-in world."""
    return FullText(xs.World(seed=1, passages=2000).passages())


def recall(retriever: xs.Retriever, questions: list[xs.Question], k: int) -> float:
    """Return the share of questions for which a gold passage is among the first `k` hits."""
    hits_of_each = retriever.search([question.text for question in questions], k)
    successes = 0
    for question, hits in zip(questions, hits_of_each, strict=True):
        successes += any(hit.passage.id in question.gold_passages for hit in hits)
    return successes / len(questions)


def main() -> None:
    """Compare both retrievers on the same questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/own-retriever"), help="folder for the BM25 index")
    parser.add_argument("--passages", type=int, default=2000, help="number of passages of the world")
    args = parser.parse_args()
    small_world = xs.World(seed=1, passages=args.passages)
    questions = list(small_world.questions("test", 200, hops=[1]))
    retrievers: dict[str, xs.Retriever] = {
        "SQLite": FullText(small_world.passages()),
        "BM25": xs.build_index(small_world.passages(), "bm25", args.out / "index"),
    }
    for name, retriever in retrievers.items():
        share = recall(retriever, questions, k=3)
        print(f"{name:>6}: gold passage among the first 3 for {share:.0%} of {len(questions)} questions")


if __name__ == "__main__":
    main()
