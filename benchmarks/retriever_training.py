"""What training a retriever gains, on questions and on a corpus that it was not trained on.

    python benchmarks/retriever_training.py --wiki-mini DIR [--epochs 1] [--max-triples 3000]

Encoders are trained, full and projection, on the train questions of two sets: of the built-in world, and of wiki-mini
(HotpotQA, 2WikiMultihopQA, MuSiQue, with sub-questions where the source has them). Each is tested on both: on the
questions, and their sub-questions, of a world with another seed, which shares no title with the first, and on the dev
questions of wiki-mini. BM25's best 100 are re-ranked by exact MaxSim in float32; recall@2/5/20 is the share of a
question's gold passages among the best. Differences from the untrained encoder are paired, over the same questions,
with 95% bootstrap intervals. Without --wiki-mini only the worlds are used. A killed run continues.

Prints a table, puts it into docs/how-to/train-the-encoder.md, and writes benchmarks/results/retriever_training.json.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import msgspec
from page import command_line, insert_table, interval, rows
from retrieval_data import load_set, source, text_of, wiki_questions

from exsearch.config import ModelConfig
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.progress import progress
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.encoder_training.train import RetrieverConfig, train_retriever
from exsearch.encoder_training.triples import add_negatives, pairs_of_questions, sample_pairs
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.questions.question import Question
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.world import World

RESULT = Path(__file__).parent / "results" / "retriever_training.json"
DOCS = Path(__file__).parent.parent / "docs" / "how-to" / "train-the-encoder.md"
CANDIDATES = 100
CUTOFFS = (2, 5, 20)
TRAIN_SEED, TEST_SEED = 1, 2
"""Of the worlds."""

Recalls = dict[str, list[float]]
"""By cut-off, `@5`, the recall of each query."""


class TestSet(msgspec.Struct):
    """Queries, the passages that each should find, and the best of BM25."""

    queries: list[str]
    gold: list[list[str]]
    candidates: list[list[str]]


def main() -> None:
    """Train what is not trained yet, test what is not tested yet, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/retriever_training"))
    parser.add_argument("--encoder", default=EMBEDDED)
    parser.add_argument("--scopes", nargs="+", default=["full", "projection"])
    parser.add_argument("--dimensions", type=int, help="of the projection")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--max-triples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world-passages", type=int, default=4000)
    parser.add_argument("--test-questions", type=int, help="of each test set; all by default, 200 of the world")
    options = parser.parse_args()
    trained = {f"{name}, {scope}": train(name, scope, options) for name in sets(options) for scope in options.scopes}
    encoders = {"untrained": options.encoder, **{label: row["encoder"] for label, row in trained.items()}}
    recalls: dict[str, dict[str, Recalls]] = {}
    for kind in sets(options):
        corpus, tests = test_sets(kind, options)
        recalls |= {name: {"bm25": recall(test, test.candidates)} for name, test in tests.items()}
        for label, encoder in encoders.items():
            for name, found in reranked(corpus, tests, encoder, options).items():
                recalls[name][label] = found
    if options.wiki_mini:
        parts = [recalls[name] for name in ("hotpotqa", "2wikimultihopqa", "musique")]
        recalls["wiki-mini questions"] = {
            label: {k: [value for part in parts for value in part[label][k]] for k in values}
            for label, values in parts[0].items()
        }
    result = {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in ("exsearch", "torch", "transformers")},
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "training": {label: {k: v for k, v in row.items() if k != "encoder"} for label, row in trained.items()},
        "tests": {name: report(found) for name, found in recalls.items()},
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    insert_table("retriever_training", text := table(result), DOCS)
    print(text)


def sets(options: argparse.Namespace) -> list[str]:
    """Return the sets that are used."""
    return ["world", "wiki-mini"] if options.wiki_mini else ["world"]


def train(name: str, scope: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train an encoder on a set; return its folder, the number of triples and the seconds."""
    corpus, questions = training_set(name, options)
    index = build_index(corpus, "bm25", options.out / name / "bm25")
    pairs = sample_pairs(pairs_of_questions(questions), options.max_triples, options.seed)
    data = add_negatives(pairs, open_index(index), corpus)
    dimensions = options.dimensions if scope == "projection" else None
    config = RetrieverConfig(scope, dimensions, options.epochs, options.batch_size, options.learning_rate)  # type: ignore[arg-type]
    out = options.out / name / scope
    start, steps = time.monotonic(), 0

    def log(step: int, figures: dict[str, float]) -> None:
        nonlocal steps
        steps += 1

    train_retriever(options.encoder, data, out, config, ModelConfig(), options.seed, log)
    seconds = round(time.monotonic() - start) if steps else None  # None: an earlier run did it
    return {"encoder": str(out), "triples": len(data.triples), "seconds": seconds}


def training_set(name: str, options: argparse.Namespace) -> tuple[Corpus, list[Question]]:
    """Return a corpus and its train questions."""
    if name == "world":
        world = World(TRAIN_SEED, options.world_passages)
        return world_corpus(world, options.out / "world"), list(world.questions("train", limit=options.max_triples))
    corpus, _ = load_set("wiki-mini", options.out / "wiki-mini", options.wiki_mini)
    return corpus, list(wiki_questions(options.wiki_mini, "train", options.out / name, corpus))


def world_corpus(world: World, folder: Path) -> Corpus:
    """Write a world's passages, unless they are there."""
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus", world.passages(), total=world.size)
    return Corpus.open(folder / "corpus")


def test_sets(kind: str, options: argparse.Namespace) -> tuple[Corpus, dict[str, TestSet]]:
    """Return the corpus and the test sets of the world of another seed, or of wiki-mini."""
    limit = options.test_questions
    asked: dict[str, list[tuple[str, list[str]]]] = {}
    if kind == "world":
        world = World(TEST_SEED, options.world_passages)
        corpus = world_corpus(world, options.out / "other-world")
        questions = list(world.questions("test", limit=limit or 200))
        asked["world questions"] = with_gold(questions)
        asked["world sub-questions"] = sub_questions(questions)
        index = build_index(corpus, "bm25", options.out / "other-world" / "bm25")
    else:
        corpus, questions = load_set("wiki-mini", options.out / "wiki-mini", options.wiki_mini)
        sources = dict.fromkeys(map(source, questions))
        of_source = {name: [each for each in questions if source(each) == name] for name in sources}
        asked = {name: with_gold(several)[:limit] for name, several in of_source.items()}
        asked["musique sub-questions"] = sub_questions(of_source["musique"])[:limit]
        index = options.out / "wiki-mini" / "bm25"
    retriever = open_index(index)
    tests = {}
    for name, pairs in asked.items():
        queries, gold = [query for query, _ in pairs], [wanted for _, wanted in pairs]
        hits = retriever.search(queries, CANDIDATES)
        tests[name] = TestSet(queries, gold, [[hit.passage.id for hit in found] for found in hits])
    return corpus, tests


def with_gold(questions: list[Question]) -> list[tuple[str, list[str]]]:
    """Return what each question asks, and its gold passages."""
    return [(question.text, question.gold_passages) for question in questions]


def sub_questions(questions: list[Question]) -> list[tuple[str, list[str]]]:
    """Return what the sub-questions ask whose passage is known, and that passage."""
    return [(sub.text, [sub.passage]) for question in questions for sub in question.sub_questions if sub.passage]


def reranked(
    corpus: Corpus, tests: dict[str, TestSet], encoder: str, options: argparse.Namespace
) -> dict[str, Recalls]:
    """Return the recall of each test set's candidates in the order of exact MaxSim; a passage is encoded once."""
    loaded = TokenEncoder(encoder)
    kept = options.out / "recall" / f"{'-'.join(tests)}-{options.test_questions}-{loaded.info.hash}.json"
    if kept.exists():
        return read_json(kept, dict[str, Recalls])
    queries = {name: loaded.encode_queries(test.queries) for name, test in tests.items()}
    wanted: dict[str, list[tuple[str, int]]] = {}
    for name, test in tests.items():
        for number, candidates in enumerate(test.candidates):
            for id in candidates:
                wanted.setdefault(id, []).append((name, number))
    scores: dict[str, list[dict[str, float]]] = {name: [{} for _ in test.queries] for name, test in tests.items()}
    ids = list(wanted)
    with progress(f"{', '.join(tests)} by {encoder}", len(ids)) as bar:
        for start in range(0, len(ids), 1024):
            part = ids[start : start + 1024]
            rows_of = corpus.rows_of(part)
            texts = [text_of(passage) for passage in corpus.rows([rows_of[id] for id in part])]
            for id, vectors in zip(part, loaded.encode_passages(texts, advance=bar.advance), strict=True):
                for name, number in wanted[id]:
                    best = (queries[name][number] @ vectors.T).max(axis=1, initial=-1.0)
                    scores[name][number][id] = float(best.sum())
    recalls = {
        name: recall(test, [sorted(found, key=found.__getitem__, reverse=True) for found in scores[name]])
        for name, test in tests.items()
    }
    write_json(kept, recalls)
    return recalls


def recall(test: TestSet, found: list[list[str]]) -> Recalls:
    """Return the share of each query's gold passages among the first of what was found."""
    return {
        f"@{k}": [len(set(gold) & set(ids[:k])) / len(gold) for gold, ids in zip(test.gold, found, strict=True)]
        for k in CUTOFFS
    }


def report(found: dict[str, Recalls]) -> dict[str, Any]:
    """Return recalls with intervals, and the difference of each trained encoder from the untrained one."""
    reported: dict[str, Any] = {}
    for label, values in found.items():
        reported[label] = {k: msgspec.to_builtins(figure(v)) for k, v in values.items()}
        if label not in ("bm25", "untrained"):
            gains = {k: paired_difference(found["untrained"][k], v) for k, v in values.items()}
            reported[label]["gain"] = {k: msgspec.to_builtins(gain) for k, gain in gains.items()}
    return reported


def table(result: dict[str, Any]) -> str:
    """Return the recalls, of trained encoders with what they gain over the untrained one."""
    lines = []
    for name, rankings in result["tests"].items():
        for number, (label, found) in enumerate(rankings.items()):
            cells = []
            for k in CUTOFFS:
                recalled, gain = found[f"@{k}"], found.get("gain", {}).get(f"@{k}")
                more = f"<br>{interval(gain, digits=3, sign='+')}" if gain else ""
                cells.append(f"{recalled['mean']:.3f}{more}")
            lines.append(["" if number else f"{name}, n = {found['@5']['n']}", label, *cells])
    training = ", ".join(
        f"{label}: {row['triples']:,} triples" + (f" in {row['seconds'] / 60:.0f} min" if row["seconds"] else "")
        for label, row in result["training"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}` on {result['machine']['cores']} cores; {versions}. Trained: {training}.\n\n" + rows(
        ["questions", "ranked by", *(f"recall@{k}" for k in CUTOFFS)], lines
    )


if __name__ == "__main__":
    main()
