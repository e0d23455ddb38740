"""Damage is seen on opening or by `exsearch verify`; it never gives another result silently, a crash or a traceback."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from damage import summary, try_all

from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.world import World

WORLD = World(seed=1, passages=240)
PASSAGES = list(WORLD.passages())
QUERIES = [question.text for question in WORLD.questions("dev", 8)]
KINDS: dict[str, dict[str, Any]] = {
    "bm25": {},
    "late": {},
    "dense": {},
    "hnsw": {"index": "hnsw"},
    "ivfpq": {"index": "ivfpq", "nlist": 4, "m": 8, "bits": 4},
    "hybrid": {},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "corpus"
    write_corpus(folder, PASSAGES[:160])
    add_passages(folder, PASSAGES[160:])
    delete_passages(folder, [PASSAGES[3].id, PASSAGES[200].id])
    return folder


def read_all(folder: Path) -> Any:
    corpus = Corpus.open(folder)
    passages = [(passage.id, passage.title, passage.text) for passage in corpus]
    return passages, [corpus.row_of(passage.id) for passage in PASSAGES], corpus.fingerprint


def search(corpus: Path, folder: Path) -> Any:
    found = open_index(folder, corpus).search(QUERIES, 5)
    return [[(hit.passage.id, round(hit.score, 4)) for hit in hits] for hits in found]


def test_a_damaged_corpus_is_never_read_as_another_one(corpus: Path) -> None:
    outcomes = try_all(corpus, read_all, flips=4)
    assert not [outcome for outcome in outcomes if outcome.is_fault], summary(outcomes)
    assert len(outcomes) > 50


def test_a_damaged_index_never_gives_other_hits_silently(corpus: Path, tmp_path: Path) -> None:
    index = build_index(Corpus.open(corpus), "bm25", tmp_path / "index")
    outcomes = try_all(index, partial(search, corpus), flips=4)
    assert not [outcome for outcome in outcomes if outcome.is_fault], summary(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_of_any_kind_of_index_goes_unseen(corpus: Path, tmp_path: Path, kind: str) -> None:
    name = kind if kind in ("bm25", "late", "hybrid") else "dense"
    index = build_index(Corpus.open(corpus), name, tmp_path / "index", **KINDS[kind])
    outcomes = try_all(index, partial(search, corpus), flips=60)
    assert not [outcome for outcome in outcomes if outcome.is_fault], summary(outcomes)
