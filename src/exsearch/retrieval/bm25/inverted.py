"""The memory-mapped inverted file of one segment: which passages have a term, how often, in text and title.

    terms.npy    uint64 [T]         hashes of the terms, ascending
    starts.npy   uint32 [T + 1, 2]  where each term's postings start, and where its title codes do
    rows.npy     uint32 [P]         postings: row from the segment's first
    codes.npy    uint16 [P]         postings: occurrences in the text, and the text's length
    titles.npy   uint16 [Q]         title codes: occurrences in the title, and the title's length
    words.npy    int64 [3]          words of all texts, words of all titles, number of passages whose title has words;
                                    deleted passages included
    lost.npy     int64 [T]          number of each term's postings that merges dropped; absent if none

The postings of a term are first those of passages with the term in the text only, then those of passages that also have
it in the title; the latter have title codes, in the same order. Rows are ascending within both. A code packs a number
of occurrences and a length, so that a table of 2^16 entries can represent any function of the two.
"""

from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exsearch.core.atomic import is_file
from exsearch.core.errors import UsageError
from exsearch.core.mapping import map_array, save_array
from exsearch.retrieval.rank import compiled

CODES = 1 << 16
_LENGTH_BITS = 11
_EXACT_LENGTHS = 1 << (_LENGTH_BITS - 1)
_MAX_OCCURRENCES = 31
_STEPS_PER_DOUBLING = 128

Numbers = npt.NDArray[np.int64]


class Postings:
    """The inverted file of one segment, memory-mapped."""

    def __init__(self, folder: Path, rows: range) -> None:
        """Map the files in `folder`. Raises ValueError if they do not fit together."""
        self.folder, self.rows = folder, rows
        self.terms, self.starts, self.postings, self.codes, self.titles, totals = (
            map_array(folder / f"{name}.npy") for name in ("terms", "starts", "rows", "codes", "titles", "words")
        )
        self.lost: Numbers | None = map_array(path) if is_file(path := folder / "lost.npy") else None
        self.text_words, self.title_words, self.titled = totals.tolist()
        """Words of all texts, words of all titles, and the number of passages whose title has words."""
        if not (
            self.starts.shape == (len(self.terms) + 1, 2)
            and self.starts[-1].tolist() == [len(self.postings), len(self.titles)]
            and len(self.postings) == len(self.codes)
            and (self.lost is None or len(self.lost) == len(self.terms))
        ):
            raise ValueError(f"the files in {folder} do not fit together")

    def count_lost(self, counts: Numbers, terms: npt.NDArray[np.uint64]) -> None:
        """Add to `counts` [terms] the number of each term's postings that merges dropped."""
        if self.lost is not None and len(self.terms):
            place = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
            counts += np.where(self.terms[place] == terms, self.lost[place], 0)

    def find(self, spans: Numbers, terms: npt.NDArray[np.uint64]) -> None:
        """Fill in `spans`, zeros [terms, 4], for each term that occurs.

        The four are where its postings start, where those with a title code start, where all of them end, and where
        the title codes start.
        """
        if not _find(spans, terms, self.terms, self.starts, len(self.postings), len(self.titles)):
            raise UsageError(f"{self.folder}: damaged index, starts.npy points beyond its files; build it again")


class Field:
    """The terms of one field, text or title, of a segment's passages, in order."""

    def __init__(self) -> None:
        """Start without passages."""
        self._terms = array("i")
        self._lengths = array("i")

    def append(self, terms: list[int]) -> None:
        """Add the numbers of the next passage's terms."""
        self._terms.extend(terms)
        self._lengths.append(len(terms))

    @property
    def lengths(self) -> Numbers:
        """Number of terms of each passage."""
        return np.array(self._lengths, dtype=np.int64)

    def occurrences(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return the pairs of term, mapped to its `place`, and row, as place << 32 | row, and how often each occurs."""
        pairs = place[np.array(self._terms, dtype=np.int32)] << 32
        pairs |= np.repeat(np.arange(len(self._lengths)), self.lengths)
        return np.unique(pairs, return_counts=True)


def write_postings(folder: Path, hashes: npt.NDArray[np.uint64], text: Field, title: Field) -> None:
    """Write the inverted file of passages; their terms are indices of `hashes`."""
    order = np.argsort(hashes)
    place = np.empty(len(hashes), dtype=np.int64)
    place[order] = np.arange(len(hashes))
    pairs, counts = text.occurrences(place)
    titled, title_counts = title.occurrences(place)
    where = np.minimum(np.searchsorted(pairs, titled), max(len(pairs) - 1, 0))
    in_both = pairs[where] == titled if len(pairs) else np.zeros(len(titled), dtype=np.bool_)
    text_counts = np.zeros(len(titled), dtype=np.int64)
    text_counts[in_both] = counts[where[in_both]]
    alone = np.ones(len(pairs), dtype=np.bool_)
    alone[where[in_both]] = False

    every = np.concatenate([pairs[alone], titled])
    occurrences = np.concatenate([counts[alone], text_counts])
    del pairs, counts, alone
    term, row = every >> 32, (every & 0xFFFFFFFF).astype(np.uint32)
    del every
    by_term = np.argsort(term, kind="stable")  # those with titles stay last, and rows ascending
    lengths = text.lengths, title.lengths
    save_array(folder / "terms.npy", hashes[order])
    save_starts(folder, np.bincount(term, minlength=len(hashes)), np.bincount(titled >> 32, minlength=len(hashes)))
    save_array(folder / "rows.npy", row[by_term])
    save_array(folder / "codes.npy", _encode(occurrences, lengths[0][row])[by_term])
    save_array(folder / "titles.npy", _encode(title_counts, lengths[1][titled & 0xFFFFFFFF]))
    save_array(folder / "words.npy", np.array([*map(np.sum, lengths), np.count_nonzero(lengths[1])], dtype=np.int64))


def save_starts(folder: Path, postings: Numbers, titles: Numbers) -> None:
    """Write where postings and title codes start, from each term's number of them."""
    starts = np.zeros((len(postings) + 1, 2), dtype=np.int64)
    np.cumsum(np.stack([postings, titles], axis=1), axis=0, out=starts[1:])
    save_array(folder / "starts.npy", starts.astype(np.uint32 if starts[-1, 0] < 1 << 32 else np.uint64))


def _encode(occurrences: Numbers, lengths: Numbers) -> npt.NDArray[np.uint16]:
    """Pack the number of occurrences, at most 31, and the length, exact below 1024 words and to 0.3% above."""
    steps = _STEPS_PER_DOUBLING * np.log2(np.maximum(lengths, _EXACT_LENGTHS) / _EXACT_LENGTHS)
    coarse = _EXACT_LENGTHS + np.minimum(np.rint(steps).astype(np.int64), _EXACT_LENGTHS - 1)
    length = np.where(lengths < _EXACT_LENGTHS, lengths, coarse)
    return (np.minimum(occurrences, _MAX_OCCURRENCES) << _LENGTH_BITS | length).astype(np.uint16)


def decoded() -> tuple[Numbers, npt.NDArray[np.float64]]:
    """Return the occurrences and the length that each code represents."""
    codes = np.arange(CODES)
    length = (codes & ((1 << _LENGTH_BITS) - 1)).astype(np.float64)
    coarse = _EXACT_LENGTHS * 2 ** ((length - _EXACT_LENGTHS) / _STEPS_PER_DOUBLING)
    return codes >> _LENGTH_BITS, np.where(length < _EXACT_LENGTHS, length, coarse)


@compiled
def _find(
    spans: Numbers,
    terms: npt.NDArray[np.uint64],
    sorted_terms: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint32],
    postings: int,
    title_codes: int,
) -> bool:
    """Fill in the spans of the terms that are in `sorted_terms`; return whether all are within what there is."""
    for number in range(len(terms)):
        place = np.searchsorted(sorted_terms, terms[number])
        if place < len(sorted_terms) and sorted_terms[place] == terms[number]:
            stop, titles = np.int64(starts[place + 1, 0]), np.int64(starts[place, 1])
            first, titled = np.int64(starts[place, 0]), stop - (np.int64(starts[place + 1, 1]) - titles)
            spans[number, 0] = first
            spans[number, 1] = titled
            spans[number, 2] = stop
            spans[number, 3] = titles
            if not (0 <= first <= titled <= stop <= postings and 0 <= titles <= titles + stop - titled <= title_codes):
                return False
    return True
