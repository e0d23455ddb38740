"""BM25: the right passages in a fixed order, and nothing for queries that match nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.errors import UsageError
from exsearch.retrieval.base import Hit, Retriever
from exsearch.retrieval.bm25 import Bm25
from exsearch.retrieval.index import build_index, open_index
from exsearch.retrieval.ranking import Best

PASSAGES = [
    Passage("a", "Jaws (film)", "A 1975 thriller directed by Steven Spielberg about a shark."),
    Passage("b", "Steven Spielberg", "An American film director, born in Cincinnati."),
    Passage("c", "Cincinnati", "A city in Ohio on the Ohio River."),
    Passage("d", "Twin", "the same words here"),
    Passage("e", "Twin", "the same words here"),
    Passage("f", "", ""),
]


def built(folder: Path, passages: list[Passage]) -> Retriever:
    corpus = write_corpus(folder / "corpus", passages)
    return open_index(build_index(corpus, "bm25", folder / "index"))


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return built(tmp_path_factory.mktemp("bm25"), PASSAGES)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def test_title_and_text_are_found_by_stem(retriever: Retriever) -> None:
    jaws, ohio = retriever.search(["Who directs JAWS?", "rivers of Ohio"], 3)
    assert ids(jaws)[0] == "a"
    assert ids(ohio)[0] == "c"
    assert [hit.rank for hit in jaws] == list(range(1, len(jaws) + 1))
    assert jaws[0].passage == PASSAGES[0]


def test_a_query_without_a_known_term_has_no_hits(retriever: Retriever) -> None:
    queries = ["", "   ", "the of and", "xylophone", "?!", "\x00"]
    assert retriever.search(queries, 5) == [[]] * len(queries)
    assert retriever.search([], 5) == []


def test_equal_scores_come_in_row_order_and_k_may_exceed_the_corpus(retriever: Retriever) -> None:
    [first] = retriever.search(["same words"], 1)
    [both] = retriever.search(["same words"], 100)
    assert ids(first) == ["d"]
    assert ids(both) == ["d", "e"]
    assert both[0].score == both[1].score


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_a_value_error(retriever: Retriever, k: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        retriever.search(["shark"], k)


words = st.sampled_from(["apple", "apples", "banana", "running", "river", "stone", "the", "of", "king", "glass"])
texts = st.lists(words, max_size=12).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(st.lists(texts, min_size=2, max_size=15), st.lists(texts, min_size=1, max_size=4), st.integers(1, 20))
def test_hits_are_those_of_bm25s_itself(texts: list[str], queries: list[str], k: int) -> None:
    stemmer = Stemmer.Stemmer("english")
    tokens = [[word for word in document if word] for document in _tokens(texts, stemmer)]
    if not any(tokens):
        return
    peer = bm25s.BM25()
    peer.index(tokens, show_progress=False)
    passages = [Passage(str(row), "", text) for row, text in enumerate(texts)]
    with TemporaryDirectory() as folder:
        found = built(Path(folder), passages).search(queries, k)
    for query, hits in zip(_tokens(queries, stemmer), found, strict=True):
        scores = peer.get_scores(query) if query else np.zeros(len(texts), dtype=np.float32)
        expected = [row for row in np.lexsort((np.arange(len(texts)), -scores)) if scores[row] > 0][:k]
        assert [hit.score for hit in hits] == pytest.approx([float(scores[row]) for row in expected])
        # equal up to rounding, which depends on the order of the terms and may swap near ties
        assert [float(scores[int(id)]) for id in ids(hits)] == pytest.approx([hit.score for hit in hits])


def _tokens(texts: list[str], stemmer: "Stemmer.Stemmer") -> list[list[str]]:
    tokenized: list[list[str]] = bm25s.tokenize(
        texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
    )
    return tokenized


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), max_size=300), max_size=3),
    st.sampled_from([1, 3, 45, 300, 1000]),
    st.sampled_from([-np.inf, 0.0]),
)
def test_the_best_of_several_parts_are_a_stable_descending_sort(parts: list[list[int]], k: int, above: float) -> None:
    best = Best(k)
    for number, part in enumerate(parts):
        best.offer(np.array(part, dtype=np.float32), sum(map(len, parts[:number])), above)
    rows, scores = best.ranked()
    array = np.array([score for part in parts for score in part], dtype=np.float32)
    expected = [row for row in np.argsort(-array, kind="stable") if array[row] > above][:k]
    assert rows.tolist() == expected
    assert scores.tolist() == array[expected].tolist()


@settings(max_examples=15, deadline=None)
@given(st.lists(texts, min_size=3, max_size=15), st.lists(texts, min_size=1, max_size=4), st.integers(1, 14))
def test_segments_do_not_change_a_score(texts: list[str], queries: list[str], cut: int) -> None:
    passages = [Passage(str(row), "", text) for row, text in enumerate(texts)]
    if not any(text.replace("the", "").replace("of", "").strip() for text in texts):
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = built(folder / "whole", passages).search(queries, 20)
        corpus = write_corpus(folder / "corpus", passages)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Bm25, "segment_rows", cut)
            index = build_index(corpus, "bm25", folder / "index")
        assert open_index(index).search(queries, 20) == whole


def test_counts_and_lengths_beyond_the_exact_range_are_nearly_right(tmp_path: Path) -> None:
    texts = ["stone " * 500 + "river " * 3000, "stone " * 3 + "glass " * 5000, "glass river king"]
    peer = bm25s.BM25()
    peer.index([text.split() for text in texts], show_progress=False)
    expected = peer.get_scores(["stone"])
    [hits] = built(tmp_path, [Passage(str(row), "", text) for row, text in enumerate(texts)]).search(["stone"], 3)
    assert {hit.passage.id: hit.score for hit in hits} == pytest.approx({"0": expected[0], "1": expected[1]}, rel=0.06)


@settings(max_examples=15, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6), st.integers(1, 5))
def test_a_batch_gives_what_single_searches_give(retriever: Retriever, queries: list[str], k: int) -> None:
    assert retriever.search(queries, k) == [retriever.search([query], k)[0] for query in queries]


def test_a_corpus_of_stop_words_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no passage holds a word"):
        built(tmp_path, [Passage("a", "The", "of and")])
    assert not (tmp_path / "index").exists()
