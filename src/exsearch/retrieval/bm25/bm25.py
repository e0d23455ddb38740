"""BM25F (Robertson, Zaragoza 2009): BM25 over two fields, title and text.

    score(query, passage) = sum over the query's terms t of  idf(t) * f / (f + k1)
    f = text frequency / (1 - b + b * text length / mean text length)
      + title_weight * title frequency / (1 - title_b + title_b * title length / mean title length)
    idf(t) = log(1 + (N - n + 1/2) / (n + 1/2))

where n is the number of passages, of N, in which t occurs in either field. A passage whose title lacks t is ranked by
its text as by Lucene's BM25. The mean title length is over the titles that have a word. Everything that depends on the
whole corpus (N, n, mean lengths) is summed over the segments when the index is opened or searched, so that scores do
not depend on how the corpus was divided into segments, or grew. Each segment has an inverted file (inverted.py).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.core.errors import UsageError
from exsearch.core.words import words
from exsearch.corpus.layout import Rows
from exsearch.corpus.passage import Hit
from exsearch.corpus.store import Corpus
from exsearch.retrieval.bm25.inverted import Field, Numbers, Postings, decoded, write_postings
from exsearch.retrieval.bm25.merge import merge_postings
from exsearch.retrieval.bm25.stems import PACKAGE, stemmer_version, stems_digest
from exsearch.retrieval.bm25.terms import Stems, TermNumbers
from exsearch.retrieval.index.folder import EncoderInfo, IndexSegment, OpenedIndex, StemmerInfo
from exsearch.retrieval.rank import INSERT_UP_TO, BestRows, Ranked, compiled, insert_best, to_hits

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
"""Upper limit of the constants, far beyond any use; above it, scores would leave the range of float32."""


class Bm25Parameters(msgspec.Struct, frozen=True):
    """The constants of the formula."""

    k1: Weight = 1.5
    b: Share = 0.4
    """Weight of a text's length, from 0 to 1."""
    title_weight: Weight = 6.0
    """How many times a word of the title counts; 0 ranks by text only."""
    title_b: Share = 1.0
    """As `b`, for the title: with 1, what counts is the word's share of the title."""


class Bm25:
    """BM25F. Scores are positive; a passage that shares no term with the query is never a hit."""

    Parameters = Bm25Parameters
    version: ClassVar[int] = 2
    """Version 1 had one field, and words of at least two characters."""
    segment_rows: ClassVar[int] = 1 << 17
    """Rows per segment: its scores, 512 KB, stay in the processor's cache."""

    def __init__(self, opened: OpenedIndex) -> None:
        """Map the segments; nothing is read into memory."""
        self.fingerprint = opened.fingerprint
        self._corpus = opened.corpus
        self._postings = [Postings(segment.folder, segment.rows) for segment in opened.segments]
        parameters: Bm25Parameters = opened.parameters
        text_words = sum(postings.text_words for postings in self._postings)
        title_words = sum(postings.title_words for postings in self._postings)
        titled = sum(postings.titled for postings in self._postings)
        self._tables = _tables(parameters, text_words / len(opened.corpus), title_words / max(titled, 1))
        self._deleted = [opened.corpus.deleted_in(postings.rows) for postings in self._postings]
        self._local = threading.local()

    @staticmethod
    def prepare(corpus: Corpus, shared: Path, parameters: Bm25Parameters) -> EncoderInfo | None:
        """Do nothing: segments share nothing."""
        return None

    @staticmethod
    def build_segment(
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: Bm25Parameters,
        advance: Callable[[int], None],
    ) -> None:
        """Write the inverted file of `rows`; needs about 30 bytes of memory per word."""
        numbers, text, title = TermNumbers(), Field(), Field()
        for batch in corpus.batches(rows.start, rows.stop):
            for passage in batch:
                title.append([numbers[word] for word in words(passage.title)])
                text.append([numbers[word] for word in words(passage.text)])
            advance(len(batch))
        if not numbers.hashes and rows == range(len(corpus)):
            raise UsageError(f"{corpus.folder}: no passage contains a word that BM25 could index")
        write_postings(folder, np.array(numbers.hashes, dtype=np.uint64), text, title)

    @staticmethod
    def check_shared(shared: Path, parameters: Bm25Parameters) -> None:
        """Do nothing: segments share nothing."""

    @staticmethod
    def check_segment(segment: IndexSegment, shared: Path, parameters: Bm25Parameters) -> None:
        """Map the inverted file."""
        Postings(segment.folder, segment.rows)

    @staticmethod
    def stemmer() -> StemmerInfo:
        """Return the version of the stemmer that is installed, and how it stems."""
        return StemmerInfo(f"{PACKAGE} {stemmer_version()}", stems_digest())

    @staticmethod
    def indivisible(parameters: Bm25Parameters) -> None:
        """Return None: all statistics are summed over the segments."""

    @staticmethod
    def merge_segments(
        parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: Bm25Parameters
    ) -> bool:
        """Concatenate the postings; those of deleted passages are dropped."""
        merge_postings(parts, deleted, folder)
        return True

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first; none for a query without a known term."""
        return to_hits(self._corpus, self.rank(queries, k))

    def rank(self, queries: list[str], k: int) -> list[Ranked]:
        """Return the rows and scores of the at most `k` best passages per query."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        k = min(k, len(self._corpus))
        stems = self._mine().stems
        terms = [[stems[word] for word in words(query)] for query in queries]
        ends = np.cumsum([0, *map(len, terms)])
        query_terms = np.array([term for own in terms for term in own], dtype=np.uint64)
        spans = np.zeros((len(self._postings), len(query_terms), 4), dtype=np.int64)
        for postings, span in zip(self._postings, spans, strict=True):
            postings.find(span, query_terms)
        lost_counts = np.zeros(len(query_terms), dtype=np.int64)
        for postings in self._postings:
            postings.count_lost(lost_counts, query_terms)
        idf = np.zeros(len(query_terms), dtype=np.float32)
        _weigh(idf, spans, lost_counts, len(self._corpus))
        return self._best(spans, idf, ends, k) if k <= INSERT_UP_TO else self._many(spans, idf, ends, k)

    def _best(self, spans: Numbers, idf: npt.NDArray[np.float32], ends: Numbers, k: int) -> list[Ranked]:
        """Rank for all queries, whose terms lie between `ends`: one compiled call per segment, without a lock."""
        rows = np.empty((len(ends) - 1, k), dtype=np.int64)
        scores = np.empty((len(ends) - 1, k), dtype=np.float32)
        counts = np.zeros(len(ends) - 1, dtype=np.int64)
        for postings, span, deleted in zip(self._postings, spans, self._deleted, strict=True):
            scratch = self._mine().scores[: len(postings.rows)]
            files = postings.postings, postings.codes, postings.titles, *self._tables
            _offer_all(rows, scores, counts, ends, span, idf, *files, scratch, deleted, postings.rows.start)
        return [(own[:count], of[:count]) for own, of, count in zip(rows, scores, counts.tolist(), strict=True)]

    def _many(self, spans: Numbers, idf: npt.NDArray[np.float32], ends: Numbers, k: int) -> list[Ranked]:
        """Do the same for a `k` that is large enough to need sorting."""
        ranked = []
        for start, stop in pairwise(ends.tolist()):
            best = BestRows(k)
            for postings, span, deleted in zip(self._postings, spans, self._deleted, strict=True):
                scores = self._mine().scores[: len(postings.rows)]
                files = postings.postings, postings.codes, postings.titles, *self._tables
                _score(scores, span[start:stop], idf[start:stop], *files)
                scores[deleted] = 0
                best.offer(scores, postings.rows.start, above=0.0)
            ranked.append(best.ranked())
        return ranked

    def _mine(self) -> "_Scratch":
        """Return this thread's buffers, which are reused from query to query."""
        if not hasattr(self._local, "scratch"):
            longest = max(len(postings.rows) for postings in self._postings)
            self._local.scratch = _Scratch(Stems(), np.empty(longest, dtype=np.float32))
        return self._local.scratch  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Scratch:
    stems: Stems
    scores: npt.NDArray[np.float32]
    """Score of each passage of one segment; allocating it for each query would cost more than filling it."""


def _tables(
    parameters: Bm25Parameters, mean_text: float, mean_title: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return, for every code of a text, f / (f + k1) by text only; and for every code of a title, its part of f over
    k1."""
    occurrences, length = decoded()
    k1 = max(parameters.k1, 1e-9)
    alone = occurrences / (occurrences + k1 * _relative(length, parameters.b, mean_text))
    title = parameters.title_weight * occurrences / _relative(length, parameters.title_b, mean_title) / k1
    return alone.astype(np.float32), title.astype(np.float32)


def _relative(length: npt.NDArray[np.float64], b: float, mean: float) -> npt.NDArray[np.float64]:
    """Return the length factor of a field; a field that has a term never has length 0."""
    return 1 - b + b * np.maximum(length, 1) / max(mean, 1e-9)


@compiled
def _weigh(idf: npt.NDArray[np.float32], spans: Numbers, lost_counts: Numbers, passages: int) -> None:
    """Fill in each term's weight from its spans [segments, terms, 4] and the number of its lost postings."""
    for term in range(len(idf)):
        occurrences = lost_counts[term]
        for segment in range(len(spans)):
            occurrences += spans[segment, term, 2] - spans[segment, term, 0]
        idf[term] = np.log(1 + (passages - occurrences + 0.5) / (occurrences + 0.5))


@compiled
def _score(
    scores: npt.NDArray[np.float32],
    spans: Numbers,
    idf: npt.NDArray[np.float32],
    rows: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.uint16],
    titles: npt.NDArray[np.uint16],
    alone: npt.NDArray[np.float32],
    in_title: npt.NDArray[np.float32],
) -> None:
    """Fill `scores` with the sum, over the query's terms, of their scores in each passage.

    A title's part t of f multiplies the remaining gain, k1 / (f + k1), by a factor: k1 / (f + t + k1) is rest / (1 +
    rest * t / k1).
    """
    scores[:] = 0
    for term in range(len(spans)):
        weight = idf[term]
        start, titled, stop, first = spans[term]
        for place in range(start, titled):
            row = rows[place]
            if row < len(scores):  # a damaged row must not be written to
                scores[row] += weight * alone[codes[place]]
        for place in range(titled, stop):
            rest = np.float32(1) - alone[codes[place]]
            rest /= np.float32(1) + rest * in_title[titles[first + place - titled]]
            row = rows[place]
            if row < len(scores):
                scores[row] += weight * (np.float32(1) - rest)


@compiled
def _offer_all(
    best_rows: Numbers,
    best_scores: npt.NDArray[np.float32],
    counts: Numbers,
    ends: Numbers,
    spans: Numbers,
    idf: npt.NDArray[np.float32],
    rows: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.uint16],
    titles: npt.NDArray[np.uint16],
    alone: npt.NDArray[np.float32],
    in_title: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    deleted: Numbers,
    first: int,
) -> None:
    """Insert a segment's rows, whose first is `first`, into the best so far of every query, [queries, k]."""
    for query in range(len(counts)):
        start, stop = ends[query], ends[query + 1]
        _score(scores, spans[start:stop], idf[start:stop], rows, codes, titles, alone, in_title)
        for place in deleted:
            scores[place] = 0
        counts[query] = insert_best(best_rows[query], best_scores[query], counts[query], scores, first, 0.0)
