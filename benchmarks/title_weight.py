"""How much the title should weigh in BM25: recall by title weight, compared with one field, bm25s, and SQLite's FTS5.

    python benchmarks/title_weight.py --wiki-mini DIR [--work runs/title_weight]

Ours are indexes of the same passages under other settings. "one field" is ours over passages whose text begins with
their title, which then have none, and b = 0.75: BM25 as before there were fields. bm25s indexes those, too, with its
own tokeniser, which takes words of two characters and more, the same stop words and the same stemmer: with it, our
index before. FTS5 has its Porter stemmer, and weights of 5 for the title and 1 for the text; a query asks it for any of
its words that is no stop word.

Weights are chosen on the train questions of wiki-mini (HotpotQA, 2WikiMultihopQA, MuSiQue) and their single-step
sub-questions; dev questions and two worlds check them. Recall@2/5/20 is the share of a question's gold passages among
the first hits, with paired differences from one field. Last come the index's size and the time of a dev question with
and without fields, in turns.

Prints the tables, puts them into docs/lab/benchmarks.md, and writes benchmarks/results/title_weight.json.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bm25s
import msgspec
import numpy as np
import Stemmer
from page import command_line, insert_table, interval, rows
from peers.runner import size
from retrieval_data import load_set, text_of, wiki_questions

from exsearch.core import words as words_of
from exsearch.core.atomic import write_text
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.world import World
from retrieval import spread

RESULT = Path(__file__).parent / "results" / "title_weight.json"
CUTOFFS = (2, 5, 20)
WORLDS = (2, 3)
"""Seeds."""
WORLD_PASSAGES, WORLD_QUESTIONS = 4000, 500
ROUNDS = 5
REPEATED = 20
ONE_FIELD, DEFAULT, STOPPED = "one field", "weight 6", "weight 6, stop words kept"
PEERS = "bm25s", "FTS5 bm25(p, 5, 1)"


@dataclass(frozen=True)
class System:
    """An index of ours: its settings, of which those not named have their defaults."""

    settings: dict[str, float]
    merged: bool = False
    """Whether titles are part of the texts."""
    read: dict[str, Any] = field(default_factory=dict)
    """What is replaced in the tokeniser."""

    def reading(self) -> AbstractContextManager[Any]:
        """Read words its way meanwhile."""
        return patch.multiple(words_of, **self.read) if self.read else nullcontext()


_KEPT = f"[\u0300-\u036f{re.escape('øØđĐðÐħĦıłŁþÞæÆœŒ')}]"
OURS = {ONE_FIELD: System({"b": 0.75}, merged=True), "one field, b 0.4": System({}, merged=True)}
OURS |= {f"weight {weight}": System({"title_weight": weight}) for weight in (1, 2, 4, 6, 8, 12)}
OURS |= {f"weight 6, b {b}": System({"b": b}) for b in (0.0, 0.75)}
OURS |= {f"weight 6, title_b {b}": System({"title_b": b}) for b in (0.0, 0.5)}
OURS[STOPPED] = System({}, read={"_LEFT_OUT": words_of._LEFT_OUT - words_of.STOP_WORDS})
OURS["weight 6, accents kept"] = System({}, read={"_FOLDED": re.compile(f"(?!{_KEPT}){words_of._FOLDED.pattern}")})

Queries = list[tuple[str, list[str]]]
"""Each with the ids of its gold passages."""
Search = Callable[[list[str]], list[list[str]]]
"""From queries to the ids of their first hits."""


def main() -> None:
    """Measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/title_weight"))
    options = parser.parse_args()
    recalls: dict[str, dict[str, dict[str, list[float]]]] = {}
    for corpus, sets in data(options):
        for system, search in searches(corpus).items():
            print(f"{corpus.folder}: {system}", flush=True)
            for name, queries in sets.items():
                found = search([query for query, _ in queries])
                add(recalls.setdefault(name, {}).setdefault(system, {}), recall(queries, found))
    corpus, dev = load_set("wiki-mini", options.work / "wiki-mini", options.wiki_mini)
    result = {
        "command": command_line(),
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        | {name: importlib.metadata.version(name) for name in ("exsearch", "numba", "bm25s", "PyStemmer")},
        "worlds": {"seeds": WORLDS, "passages": WORLD_PASSAGES},
        "tests": {name: report(found) for name, found in recalls.items()},
        "cost": cost(corpus, [question.text for question in dev]),
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    insert_table("title_weight", text := tables(result))
    print(text)


def data(options: argparse.Namespace) -> list[tuple[Corpus, dict[str, Queries]]]:
    """Return every corpus with its sets of queries; sets of one name are one set."""
    folder = options.work / "wiki-mini"
    corpus, dev = load_set("wiki-mini", folder, options.wiki_mini)
    train = list(wiki_questions(options.wiki_mini, "train", folder / "train", corpus))
    found = [(corpus, named("train", train) | named("dev", dev))]
    for seed in WORLDS:
        world = World(seed, WORLD_PASSAGES)
        place = options.work / f"world-{seed}" / "corpus"
        of_world = write_corpus(place, world.passages(), total=world.size)
        sets = named("world", list(world.questions("test", limit=WORLD_QUESTIONS)))
        short = [
            query for query in sets["world sub-questions"] if any(len(word) == 1 for word in words_of.words(query[0]))
        ]
        found.append((of_world, sets | {"of them, with a one-character word": short}))
    return found


def named(name: str, questions: list[Question]) -> dict[str, Queries]:
    """Return the questions and their single-step sub-questions, where the gold passages are known."""
    steps = [(sub.text, [sub.passage]) for question in questions for sub in question.sub_questions if sub.passage]
    return {
        f"{name} questions": [(each.text, each.gold_passages) for each in questions if each.gold_passages],
        f"{name} sub-questions": steps,
    }


def searches(corpus: Corpus) -> dict[str, Search]:
    """Return every system over a corpus."""
    passages = [Passage(passage.id, "", text_of(passage)) for passage in corpus]
    merged = write_corpus(corpus.folder.with_name("merged"), passages)
    found = {name: ours(merged if system.merged else corpus, name, system) for name, system in OURS.items()}
    return found | dict(zip(PEERS, (by_bm25s(corpus), by_fts5(corpus)), strict=True))


def ours(corpus: Corpus, name: str, system: System) -> Search:
    """Search an index of ours."""
    with system.reading():
        retriever = open_index(build_index(corpus, "bm25", index_folder(corpus, name), **system.settings))

    def search(queries: list[str]) -> list[list[str]]:
        with system.reading():
            return [[hit.passage.id for hit in hits] for hits in retriever.search(queries, max(CUTOFFS))]

    return search


def index_folder(corpus: Corpus, name: str) -> Path:
    """Return where the index of a system of ours is."""
    return corpus.folder.with_name(name.replace(",", "").replace(" ", "-"))


def by_bm25s(corpus: Corpus) -> Search:
    """Search bm25s, with its default constants."""
    passages = list(corpus)
    settings = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "return_ids": False, "show_progress": False}
    retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    retriever.index(bm25s.tokenize([text_of(passage) for passage in passages], **settings), show_progress=False)

    def search(queries: list[str]) -> list[list[str]]:
        found = []
        for query in bm25s.tokenize(queries, **settings):
            scores = retriever.get_scores(query) if query else np.zeros(len(passages))
            order = np.argsort(-scores, kind="stable")[: max(CUTOFFS)]
            found.append([passages[row].id for row in order if scores[row] > 0])
        return found

    return search


def by_fts5(corpus: Corpus) -> Search:
    """Search SQLite."""
    base = sqlite3.connect(":memory:")
    base.execute("CREATE VIRTUAL TABLE p USING fts5(id UNINDEXED, title, text, tokenize = 'porter unicode61')")
    base.executemany("INSERT INTO p VALUES (?, ?, ?)", ((each.id, each.title, each.text) for each in corpus))

    def search(queries: list[str]) -> list[list[str]]:
        found = []
        for query in queries:
            asked = " OR ".join(
                f'"{word}"' for word in re.findall(r"\w+", query.lower()) if word not in words_of.STOP_WORDS
            )
            best = "SELECT id FROM p WHERE p MATCH ? ORDER BY bm25(p, 0, 5, 1), rowid LIMIT ?"
            found.append([id for (id,) in base.execute(best, (asked or '""', max(CUTOFFS)))])
        return found

    return search


def recall(queries: Queries, found: list[list[str]]) -> dict[str, list[float]]:
    """Return, by cut-off, the share of each query's gold passages among its first hits."""
    return {
        f"@{k}": [len(set(gold) & set(ids[:k])) / len(gold) for (_, gold), ids in zip(queries, found, strict=True)]
        for k in CUTOFFS
    }


def add(to: dict[str, list[float]], more: dict[str, list[float]]) -> None:
    """Append the recalls of another corpus."""
    for cutoff, values in more.items():
        to.setdefault(cutoff, []).extend(values)


def report(found: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return each system's recalls with intervals, and their paired differences from one field and the peers."""
    return {
        system: {
            cutoff: msgspec.to_builtins(figure(values))
            | {
                f"from {other}": msgspec.to_builtins(paired_difference(found[other][cutoff], values))
                for other in (ONE_FIELD, *PEERS)
                if other != system
            }
            for cutoff, values in recalls.items()
        }
        for system, recalls in found.items()
    }


def cost(corpus: Corpus, queries: list[str]) -> dict[str, dict[str, Any]]:
    """Return size and milliseconds a query of some systems, of every query its best time, in turns."""
    names = (ONE_FIELD, DEFAULT, STOPPED)
    opened: dict[str, Any] = {name: open_index(index_folder(corpus, name)) for name in names}
    medians: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        for name, retriever in opened.items():
            best = np.full(len(queries), np.inf)
            with OURS[name].reading():
                for _ in range(REPEATED):
                    for place, query in enumerate(queries):
                        start = time.perf_counter()
                        retriever.rank([query], max(CUTOFFS))
                        best[place] = min(best[place], time.perf_counter() - start)
            if number:  # the first round compiles
                medians[name].append(float(np.median(best)) * 1000)
    sizes = {name: size(index_folder(corpus, name)) for name in names}
    return {
        name: {
            "bytes": sizes[name],
            "milliseconds": medians[name],
            "size_ratio": sizes[name] / sizes[ONE_FIELD],
            "time_ratio": spread(medians[name], medians[ONE_FIELD]),
        }
        for name in names
    }


def tables(result: dict[str, Any]) -> str:
    """Return recalls with their differences from one field, one table for each kind of query, and what it costs."""
    parts = []
    for name, systems in result["tests"].items():
        lines = []
        for system, found in systems.items():
            gains = [one.get(f"from {ONE_FIELD}") for one in found.values()]
            lines.append([system, *(f"{one['mean']:.3f}" for one in found.values())])
            lines[-1] += [interval(gain, digits=3, sign="+") if gain else "" for gain in gains]
        head = ["", "recall@2", "@5", "@20", "difference from one field @2", "@5", "@20"]
        parts.append(f"**{name}**, n = {systems[DEFAULT]['@2']['n']}\n\n{rows(head, lines)}")
    lines = [
        [f"{name}, against {peer}", *(interval(one[f"from {peer}"], digits=3, sign="+") for one in found.values())]
        for name, found in ((name, systems[DEFAULT]) for name, systems in result["tests"].items())
        for peer in PEERS
    ]
    parts.append(f"Differences of {DEFAULT} from the peers:\n\n{rows(['', 'recall@2', '@5', '@20'], lines)}")
    lines = []
    for name, one in result["cost"].items():
        low, middle, high = one["time_ratio"]
        time_ratio = f"{middle:.2f}x ({low:.2f}-{high:.2f})"
        lines.append(
            [name, f"{one['bytes']:,}", f"{one['size_ratio']:.3f}x", f"{min(one['milliseconds']):.3f}", time_ratio]
        )
    head = ["", "bytes", "of one field", "ms per dev question", "of one field (minimum and maximum over the rounds)"]
    parts.append(f"Size and time:\n\n{rows(head, lines)}")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n\n".join([f"`{result['command']}` on {result['machine']['cores']} cores; {versions}.", *parts])


if __name__ == "__main__":
    main()
