"""BM25F: the right passages in a fixed order, and nothing for queries that match nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory

import bm25s
import numpy as np
import numpy.typing as npt
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.core.words import words as split
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.rank import BestRows
from unsealed import forget

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
titles = st.lists(words, max_size=4).map(" ".join)


def indexed(texts: list[str], titles: list[str] | None = None, **parameters: float) -> Retriever:
    """An index of these texts, whose ids are their numbers."""
    named = zip(texts, titles or [""] * len(texts), strict=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        passages = [Passage(str(row), title, text) for row, (text, title) in enumerate(named)]
        return open_index(
            build_index(write_corpus(folder / "corpus", passages), "bm25", folder / "index", **parameters)
        )


def stemmed(texts: list[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer("english")
    return [stemmer.stemWords(split(text)) for text in texts]


def agree(found: list[Hit], expected: npt.NDArray[np.float32], k: int) -> None:
    """Check hits against the score of every passage."""
    order = [row for row in np.lexsort((np.arange(len(expected)), -expected)) if expected[row] > 0][:k]
    assert [hit.score for hit in found] == pytest.approx([float(expected[row]) for row in order], rel=2e-6)
    # equal up to rounding, which depends on the order of the terms and may swap near ties
    assert [float(expected[int(id)]) for id in ids(found)] == pytest.approx([hit.score for hit in found], rel=2e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(texts, min_size=2, max_size=15), st.lists(texts, min_size=1, max_size=4), st.integers(1, 20))
def test_hits_without_titles_are_those_of_bm25s(texts: list[str], queries: list[str], k: int) -> None:
    tokens = stemmed(texts)
    if not any(tokens):
        return
    peer = bm25s.BM25()
    peer.index(tokens, show_progress=False)
    for query, hits in zip(stemmed(queries), indexed(texts, b=0.75).search(queries, k), strict=True):
        agree(hits, peer.get_scores(query) if query else np.zeros(len(texts), dtype=np.float32), k)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(texts, titles), min_size=2, max_size=15),
    st.lists(texts, min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_without_length_normalisation_a_title_weighs_as_one_repeated_in_the_text(
    passages: list[tuple[str, str]], queries: list[str], weight: int
) -> None:
    of_text, of_title = stemmed([text for text, _ in passages]), stemmed([title for _, title in passages])
    tokens = [text + weight * title for text, title in zip(of_text, of_title, strict=True)]
    if not any(tokens):
        return
    peer = bm25s.BM25(b=0.0)
    peer.index(tokens, show_progress=False)
    ours = indexed(*map(list, zip(*passages, strict=True)), b=0.0, title_b=0.0, title_weight=float(weight))
    for query, hits in zip(stemmed(queries), ours.search(queries, 9), strict=True):
        agree(hits, peer.get_scores(query) if query else np.zeros(len(tokens), dtype=np.float32), 9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(texts, titles), min_size=1, max_size=15),
    st.lists(texts, min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 1.5]),
    st.sampled_from([0.0, 0.75, 1.0]),
    st.sampled_from([0.0, 1.0, 6.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_scores_are_those_of_the_formula_in_float64(
    passages: list[tuple[str, str]], queries: list[str], k1: float, b: float, weight: float, title_b: float
) -> None:
    text, title = (stemmed(list(field)) for field in zip(*passages, strict=True))
    if not any(text) and not any(title):
        return
    ours = indexed(*map(list, zip(*passages, strict=True)), k1=k1, b=b, title_weight=weight, title_b=title_b)
    mean_text = sum(map(len, text)) / len(text)
    mean_title = sum(map(len, title)) / max(sum(map(bool, title)), 1)
    for query, hits in zip(stemmed(queries), ours.search(queries, 20), strict=True):
        scores = np.zeros(len(passages))
        for term in query:
            n = sum(term in one or term in other for one, other in zip(text, title, strict=True))
            idf = np.log(1 + (len(passages) - n + 0.5) / (n + 0.5))
            for row in range(len(passages)):
                f = 0.0
                if term in text[row]:
                    f += text[row].count(term) / (1 - b + b * len(text[row]) / mean_text)
                if term in title[row]:
                    f += weight * title[row].count(term) / (1 - title_b + title_b * len(title[row]) / mean_title)
                scores[row] += idf * f / (f + k1) if f else 0.0
        agree(hits, scores, 20)


@settings(max_examples=15, deadline=None)
@given(st.lists(texts, min_size=2, max_size=15), st.lists(texts, min_size=1, max_size=4))
def test_a_corpus_without_titles_loses_nothing(texts: list[str], queries: list[str]) -> None:
    if not any(stemmed(texts)):
        return
    plain = indexed(texts, title_weight=0.0).search(queries, 20)
    assert indexed(texts).search(queries, 20) == plain
    assert indexed(texts, title_weight=100.0, title_b=0.0).search(queries, 20) == plain


def test_a_title_that_consists_of_the_words_asked_for_comes_first(tmp_path: Path) -> None:
    passages = [
        Passage("long", "Lists of films about sharks by year", "This list is not complete."),
        Passage("text", "Ocean life", "The shark, the shark and the shark."),
        Passage("short", "Shark", "A fish of the ocean."),
    ]
    [hits] = built(tmp_path, passages).search(["shark"], 3)
    assert ids(hits)[0] == "short"
    assert len(hits) == 3
    corpus = Corpus.open(tmp_path / "corpus")
    [hits] = open_index(build_index(corpus, "bm25", tmp_path / "index", title_weight=0.0)).search(["shark"], 3)
    assert ids(hits) == ["text"]


def test_untitled_passages_do_not_change_what_a_title_counts(tmp_path: Path) -> None:
    titled = [Passage("a", "Shark", "fish"), Passage("b", "Great white shark", "fish")]
    alone = built(tmp_path / "alone", titled)
    mixed = built(tmp_path / "mixed", [*titled, *(Passage(str(row), "", "fish") for row in range(98))])
    relative = [
        [hit.score / hits[0].score for hit in hits] for [hits] in (r.search(["shark"], 2) for r in (alone, mixed))
    ]
    assert relative[0] == pytest.approx(relative[1])


def test_an_inverted_file_with_more_than_four_billion_postings_is_read(tmp_path: Path) -> None:
    """Its numbers then take 64 bits."""
    queries = ["Who directs JAWS?", "rivers of Ohio", "spielberg"]
    before = built(tmp_path, PASSAGES).search(queries, 5)
    [file] = (tmp_path / "index").rglob("starts.npy")
    starts = np.load(file)
    assert starts.dtype == np.uint32
    file.unlink()
    np.save(file, starts.astype(np.uint64))
    forget(tmp_path / "index")
    assert open_index(tmp_path / "index").search(queries, 5) == before


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), max_size=300), max_size=3),
    st.sampled_from([1, 3, 45, 300, 1000]),
    st.sampled_from([-np.inf, 0.0]),
)
def test_the_best_of_several_parts_are_a_stable_descending_sort(parts: list[list[int]], k: int, above: float) -> None:
    best = BestRows(k)
    for number, part in enumerate(parts):
        best.offer(np.array(part, dtype=np.float32), sum(map(len, parts[:number])), above)
    rows, scores = best.ranked()
    array = np.array([score for part in parts for score in part], dtype=np.float32)
    expected = [row for row in np.argsort(-array, kind="stable") if array[row] > above][:k]
    assert rows.tolist() == expected
    assert scores.tolist() == array[expected].tolist()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(texts, titles), min_size=3, max_size=15),
    st.lists(texts, min_size=1, max_size=4),
    st.integers(1, 14),
)
def test_segments_do_not_change_a_score(texts: list[tuple[str, str]], queries: list[str], cut: int) -> None:
    passages = [Passage(str(row), title, text) for row, (text, title) in enumerate(texts)]
    if not any(map(any, texts)):
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = built(folder / "whole", passages).search(queries, 20)
        corpus = write_corpus(folder / "corpus", passages)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Bm25, "segment_rows", cut)
            index = build_index(corpus, "bm25", folder / "index")
        assert open_index(index).search(queries, 20) == whole


@pytest.mark.parametrize("field", ["text", "title"])
def test_counts_and_lengths_beyond_the_exact_range_are_nearly_right(tmp_path: Path, field: str) -> None:
    texts = ["stone " * 500 + "river " * 3000, "stone " * 3 + "glass " * 5000, "glass river king"]
    peer = bm25s.BM25()
    peer.index([text.split() for text in texts], show_progress=False)
    expected = peer.get_scores(["stone"])
    passages = [Passage(str(row), **{"title": "", "text": "", field: text}) for row, text in enumerate(texts)]
    corpus = write_corpus(tmp_path / "corpus", passages)
    index = build_index(corpus, "bm25", tmp_path / "index", b=0.75, title_weight=1.0, title_b=0.75)
    [hits] = open_index(index).search(["stone"], 3)
    assert {hit.passage.id: hit.score for hit in hits} == pytest.approx({"0": expected[0], "1": expected[1]}, rel=0.06)


@settings(max_examples=15, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6), st.integers(1, 5))
def test_a_batch_gives_what_single_searches_give(retriever: Retriever, queries: list[str], k: int) -> None:
    assert retriever.search(queries, k) == [retriever.search([query], k)[0] for query in queries]


def test_a_corpus_without_a_word_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no passage contains a word"):
        built(tmp_path, [Passage("a", "?", "... !")])
    assert not (tmp_path / "index").exists()
