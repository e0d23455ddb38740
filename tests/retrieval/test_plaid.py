"""PLAID by fast-plaid: beside an exact scan where the library is there, a clear refusal where it is not."""

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.late.plaid import Plaid
from exsearch.world import World

needs_plaid = pytest.mark.needs("fast_plaid")
QUERIES = ["Who works for a university?", "the birthplace of a sculptor", "a river and its mouth"]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plaid, "segment_rows", 250)


def passages(count: int) -> list[Passage]:
    return [*World(seed=3, passages=count - 1).passages(), Passage("blank", "", "\u200b")]


def exact(corpus: Corpus, query: str, k: int) -> list[str]:
    """The best passages by MaxSim over vectors that nothing has compressed."""
    encoder = TokenEncoder()
    rows = list(corpus.rows(list(range(len(corpus)))))
    vectors = encoder.encode_passages([f"{p.title}\n{p.text}" for p in rows], 256)
    [asked] = encoder.encode_queries([query], 256)
    scores = [(asked @ own.T).max(axis=1).sum() if len(own) else -np.inf for own in vectors]
    return [rows[row].id for row in np.argsort(-np.array(scores), kind="stable")[:k]]


@needs_plaid
def test_it_finds_what_an_exact_scan_finds(tmp_path: Path, small_segments: None) -> None:
    corpus = write_corpus(tmp_path / "corpus", passages(600))
    retriever = open_index(build_index(corpus, "plaid", tmp_path / "index", bits=4))
    found = retriever.search([*QUERIES, "  "], 10)
    for query, hits in zip(QUERIES, found, strict=False):
        assert [hit.rank for hit in hits] == list(range(1, 11))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({hit.passage.id for hit in hits} & set(exact(corpus, query, 10))) >= 7
    assert found[3] == []


@needs_plaid
def test_a_grown_corpus_gets_further_segments_and_deleted_passages_are_gone(
    tmp_path: Path, small_segments: None
) -> None:
    whole = passages(600)
    corpus = write_corpus(tmp_path / "corpus", whole)
    index = build_index(corpus, "plaid", tmp_path / "index")
    before = {part.name: part.stat().st_mtime_ns for part in (index / "segments").iterdir()}
    new = Passage("new", "Zzyzx Observatory", "The Zzyzx Observatory watches comets from a desert.")
    build_index(add_passages(corpus.folder, [new]), "plaid", index)
    assert {name: (index / "segments" / name).stat().st_mtime_ns for name in before} == before
    query = "Zzyzx Observatory comets"
    assert open_index(index).search([query], 3)[0][0].passage.id == "new"
    delete_passages(corpus.folder, ["new"])
    hits = open_index(index).search([query], 3)[0]
    assert len(hits) == 3
    assert "new" not in {hit.passage.id for hit in hits}


@pytest.mark.parametrize(
    ("installed", "reason"), [("1.7.0.290", "compiled for torch 2.9.0 and crashes"), (None, "needs fast-plaid")]
)
def test_without_the_library_or_its_torch_the_build_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str | None, reason: str
) -> None:
    def told(name: str) -> str:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("importlib.metadata.version", told)
    corpus = write_corpus(tmp_path / "corpus", [Passage("a", "A", "text")])
    with pytest.raises(UsageError, match=reason):
        build_index(corpus, "plaid", tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
