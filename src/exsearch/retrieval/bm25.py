"""BM25 over title and text (Lucene's variant).

    score(query, passage) = sum over the query's terms t of  idf(t) * f / (f + k1 * (1 - b + b * length / mean length))
    idf(t) = log(1 + (N - n + 1/2) / (n + 1/2))

with f how often t occurs in the passage, n in how many of the N passages. Everything that depends on the corpus as a
whole (N, n, mean length) is summed over the segments when the index is opened or searched, so that scores do not
depend on how the corpus was cut into segments or grew.

A segment holds an inverted file, memory-mapped:

    terms.npy    uint64 [T]    hashes of the terms, ascending
    starts.npy   int64 [T + 1] where each term's postings begin
    rows.npy     uint32 [P]    postings: row from the segment's first, ascending within a term
    codes.npy    uint16 [P]    postings: f and length together, see `_encode`
    words.npy    int64 []      total length of the segment's passages, deleted ones included
    lost.npy     int64 [T]     how many postings of each term a merge has left out; absent if none

One number for f and length lets a table of 2^16 scores, made when the index is opened, replace arithmetic and a
look-up of the length for each posting.
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

from exsearch.corpus.layout import Rows
from exsearch.corpus.store import Corpus
from exsearch.errors import UsageError
from exsearch.files import is_file
from exsearch.mapping import map_array
from exsearch.retrieval.base import Hit
from exsearch.retrieval.bm25_merge import merge_postings
from exsearch.retrieval.index_folder import EncoderInfo, OpenedIndex, Segment
from exsearch.retrieval.ranking import INSERT_UP_TO, Best, Ranked, compiled, insert_best, to_hits
from exsearch.retrieval.terms import STOP_WORD, Stems, TermNumbers, words

_LENGTH_BITS = 11
_EXACT_LENGTHS = 1 << (_LENGTH_BITS - 1)
_MOST_OCCURRENCES = 31
_STEPS_PER_DOUBLING = 128


class Bm25Parameters(msgspec.Struct, frozen=True):
    """The two constants of the BM25 formula."""

    k1: Annotated[float, msgspec.Meta(ge=0)] = 1.5
    b: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75


class Postings:
    """The inverted file of one segment, mapped."""

    def __init__(self, folder: Path, rows: range) -> None:
        """Map the files in `folder`; raises ValueError if they do not fit together."""
        self.rows = rows
        self.terms, self.starts, self.postings, self.codes, total = (
            map_array(folder / f"{name}.npy") for name in ("terms", "starts", "rows", "codes", "words")
        )
        lost = folder / "lost.npy"
        self.lost: npt.NDArray[np.int64] | None = map_array(lost) if is_file(lost) else None
        self.words = int(total)
        if not (
            len(self.terms) + 1 == len(self.starts) and len(self.postings) == len(self.codes) == int(self.starts[-1])
        ) or (self.lost is not None and len(self.lost) != len(self.terms)):
            raise ValueError(f"the files in {folder} do not fit together")

    def count_lost(self, counts: npt.NDArray[np.int64], terms: npt.NDArray[np.uint64]) -> None:
        """Add to `counts` [terms] how many postings of each term a merge has left out."""
        if self.lost is not None and len(self.terms):
            place = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
            counts += np.where(self.terms[place] == terms, self.lost[place], 0)

    def find(self, spans: npt.NDArray[np.int64], terms: npt.NDArray[np.uint64]) -> None:
        """Fill in `spans`, zeros [terms, 2], where the postings of each term begin and end, if it is there."""
        _find(spans, terms, self.terms, self.starts)


class Bm25:
    """Scores are positive; a passage that shares no term with the query is never a hit."""

    Parameters = Bm25Parameters
    segment_rows: ClassVar[int] = 1 << 17
    """The scores of a segment, 512 KB, stay in the processor's cache."""

    def __init__(self, opened: OpenedIndex) -> None:
        """Map the segments; nothing is read into memory."""
        self.fingerprint = opened.fingerprint
        self._corpus = opened.corpus
        self._postings = [Postings(segment.folder, segment.rows) for segment in opened.segments]
        parameters: Bm25Parameters = opened.parameters
        total_words = sum(postings.words for postings in self._postings)
        self._table = _score_table(parameters, total_words / len(opened.corpus))
        self._deleted = [opened.corpus.deleted_in(postings.rows) for postings in self._postings]
        self._local = threading.local()

    @staticmethod
    def prepare(corpus: Corpus, shared: Path, parameters: Bm25Parameters) -> EncoderInfo | None:
        """Nothing is shared."""
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
        """Write the inverted file of `rows`; memory: about 30 bytes a word."""
        numbers = TermNumbers()
        occurrences: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        for batch in corpus.batches(rows.start, rows.stop):
            for passage in batch:
                found = [numbers[word] for word in words(f"{passage.title}\n{passage.text}")]
                terms = np.array([number for number in found if number != STOP_WORD], dtype=np.int32)
                occurrences.append(terms)
                lengths.append(len(terms))
            advance(len(batch))
        if not numbers.hashes and rows == range(len(corpus)):
            raise UsageError(f"{corpus.folder}: no passage holds a word that BM25 could index")
        _write(folder, np.array(numbers.hashes, dtype=np.uint64), np.concatenate(occurrences), np.array(lengths))

    @staticmethod
    def check_shared(shared: Path, parameters: Bm25Parameters) -> None:
        """Nothing is shared."""

    @staticmethod
    def check_segment(segment: Segment, shared: Path, parameters: Bm25Parameters) -> None:
        """Map the inverted file."""
        Postings(segment.folder, segment.rows)

    @staticmethod
    def indivisible(parameters: Bm25Parameters) -> None:
        """All statistics are summed over the segments."""

    @staticmethod
    def merge_segments(
        parts: list[Segment], deleted: list[Rows], shared: Path, folder: Path, parameters: Bm25Parameters
    ) -> bool:
        """Concatenate the postings; those of deleted passages are dropped."""
        merge_postings(parts, deleted, folder)
        return True

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits a query, best first; none for a query without a known term."""
        return to_hits(self._corpus, self.rank(queries, k))

    def rank(self, queries: list[str], k: int) -> list[Ranked]:
        """Return the rows and scores of the at most `k` best passages of each query."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        k = min(k, len(self._corpus))
        stems = self._mine().stems
        terms = [[stem for word in words(query) if (stem := stems[word]) is not None] for query in queries]
        ends = np.cumsum([0, *map(len, terms)])
        known = np.array([term for own in terms for term in own], dtype=np.uint64)
        spans = np.zeros((len(self._postings), len(known), 2), dtype=np.int64)
        for postings, span in zip(self._postings, spans, strict=True):
            postings.find(span, known)
        lost = np.zeros(len(known), dtype=np.int64)
        for postings in self._postings:
            postings.count_lost(lost, known)
        idf = np.zeros(len(known), dtype=np.float32)
        _weigh(idf, spans, lost, len(self._corpus))
        return self._best(spans, idf, ends, k) if k <= INSERT_UP_TO else self._many(spans, idf, ends, k)

    def _best(
        self,
        spans: npt.NDArray[np.int64],
        idf: npt.NDArray[np.float32],
        ends: npt.NDArray[np.int64],
        k: int,
    ) -> list[Ranked]:
        """Rank for all queries, whose terms lie between `ends`: one compiled call a segment, without a lock."""
        rows = np.empty((len(ends) - 1, k), dtype=np.int64)
        scores = np.empty((len(ends) - 1, k), dtype=np.float32)
        counts = np.zeros(len(ends) - 1, dtype=np.int64)
        for postings, span, deleted in zip(self._postings, spans, self._deleted, strict=True):
            scratch = self._mine().scores[: len(postings.rows)]
            files = postings.postings, postings.codes, self._table
            _offer_all(rows, scores, counts, ends, span, idf, *files, scratch, deleted, postings.rows.start)
        return [(own[:count], of[:count]) for own, of, count in zip(rows, scores, counts.tolist(), strict=True)]

    def _many(
        self,
        spans: npt.NDArray[np.int64],
        idf: npt.NDArray[np.float32],
        ends: npt.NDArray[np.int64],
        k: int,
    ) -> list[Ranked]:
        """Do the same for a `k` that needs sorting."""
        ranked = []
        for start, stop in pairwise(ends.tolist()):
            best = Best(k)
            for postings, span, deleted in zip(self._postings, spans, self._deleted, strict=True):
                scores = self._mine().scores[: len(postings.rows)]
                _score(scores, span[start:stop], idf[start:stop], postings.postings, postings.codes, self._table)
                scores[deleted] = 0
                best.offer(scores, postings.rows.start, above=0.0)
            ranked.append(best.ranked())
        return ranked

    def _mine(self) -> "_Scratch":
        """Return what this thread reuses from query to query."""
        if not hasattr(self._local, "scratch"):
            longest = max(len(postings.rows) for postings in self._postings)
            self._local.scratch = _Scratch(Stems(), np.empty(longest, dtype=np.float32))
        return self._local.scratch  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Scratch:
    stems: Stems
    scores: npt.NDArray[np.float32]
    """Of the passages of one segment; allocating them anew would cost more than filling them."""


def _write(
    folder: Path, hashes: npt.NDArray[np.uint64], terms: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]
) -> None:
    """Write the inverted file of passages whose terms, numbers into `hashes`, follow one another in `terms`."""
    order = np.argsort(hashes)
    place = np.empty(len(hashes), dtype=np.int64)
    place[order] = np.arange(len(hashes))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    pairs, occurrences = np.unique(place[terms] << 32 | rows, return_counts=True)
    term, row = pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.uint32)
    np.save(folder / "terms.npy", hashes[order])
    np.save(folder / "starts.npy", np.searchsorted(term, np.arange(len(hashes) + 1)))
    np.save(folder / "rows.npy", row)
    np.save(folder / "codes.npy", _encode(occurrences, lengths[row]))
    np.save(folder / "words.npy", np.int64(len(terms)))


def _encode(occurrences: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Pack how often a term occurs, at most 31, and the passage's length, exact below 1024 terms and within
    0.6% above.
    """
    steps = _STEPS_PER_DOUBLING * np.log2(np.maximum(lengths, _EXACT_LENGTHS) / _EXACT_LENGTHS)
    coarse = _EXACT_LENGTHS + np.minimum(np.rint(steps).astype(np.int64), _EXACT_LENGTHS - 1)
    length = np.where(lengths < _EXACT_LENGTHS, lengths, coarse)
    return (np.minimum(occurrences, _MOST_OCCURRENCES) << _LENGTH_BITS | length).astype(np.uint16)


def _score_table(parameters: Bm25Parameters, mean_length: float) -> npt.NDArray[np.float32]:
    """Return f / (f + k1 * (1 - b + b * length / mean length)) for every code."""
    codes = np.arange(1 << 16)
    length = (codes & ((1 << _LENGTH_BITS) - 1)).astype(np.float64)
    coarse = _EXACT_LENGTHS * 2 ** ((length - _EXACT_LENGTHS) / _STEPS_PER_DOUBLING)
    length = np.where(length < _EXACT_LENGTHS, length, coarse)
    occurrences = codes >> _LENGTH_BITS
    damping = parameters.k1 * (1 - parameters.b + parameters.b * length / max(mean_length, 1e-9))
    table: npt.NDArray[np.float64] = np.zeros(len(codes))
    np.divide(occurrences, occurrences + damping, out=table, where=occurrences > 0)
    return table.astype(np.float32)


@compiled
def _find(
    spans: npt.NDArray[np.int64],
    terms: npt.NDArray[np.uint64],
    sorted_terms: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
) -> None:
    """Fill in the spans of the terms that are among `sorted_terms`."""
    for number in range(len(terms)):
        place = np.searchsorted(sorted_terms, terms[number])
        if place < len(sorted_terms) and sorted_terms[place] == terms[number]:
            spans[number, 0], spans[number, 1] = starts[place], starts[place + 1]


@compiled
def _weigh(
    idf: npt.NDArray[np.float32], spans: npt.NDArray[np.int64], lost: npt.NDArray[np.int64], passages: int
) -> None:
    """Fill in each term's weight from its spans [segments, terms, 2] and its lost postings in all segments."""
    for term in range(len(idf)):
        found_in = lost[term]
        for segment in range(len(spans)):
            found_in += spans[segment, term, 1] - spans[segment, term, 0]
        idf[term] = np.log(1 + (passages - found_in + 0.5) / (found_in + 0.5))


@compiled
def _score(
    scores: npt.NDArray[np.float32],
    spans: npt.NDArray[np.int64],
    idf: npt.NDArray[np.float32],
    rows: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.uint16],
    table: npt.NDArray[np.float32],
) -> None:
    """Fill `scores` with the sum, over the query's terms, of their scores in each passage."""
    scores[:] = 0
    for term in range(len(spans)):
        weight = idf[term]
        for place in range(spans[term, 0], spans[term, 1]):
            scores[rows[place]] += weight * table[codes[place]]


@compiled
def _offer_all(
    best_rows: npt.NDArray[np.int64],
    best_scores: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    idf: npt.NDArray[np.float32],
    rows: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.uint16],
    table: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    deleted: npt.NDArray[np.int64],
    first: int,
) -> None:
    """Put a segment's rows, the first of which is `first`, among the best so far of every query, [queries, k]."""
    for query in range(len(counts)):
        start, stop = ends[query], ends[query + 1]
        _score(scores, spans[start:stop], idf[start:stop], rows, codes, table)
        for place in deleted:
            scores[place] = 0
        counts[query] = insert_best(best_rows[query], best_scores[query], counts[query], scores, first, 0.0)
