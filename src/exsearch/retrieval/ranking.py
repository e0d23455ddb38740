"""From scores to hits: the best rows, ties always in row order."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Hit

Function = TypeVar("Function", bound=Callable[..., Any])
Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Rows and their scores, best first."""


def compiled(function: Function) -> Function:
    """Compile `function` to machine code at its first call; keep the result on disk for the next process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba finds no folder it may write to, as in a read-only container
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


_INSERT_UP_TO = 256
"""Keeping more than so many rows in order one by one costs more than sorting them at the end."""


class Best:
    """The `k` best of the rows offered, in rising order of rows; equal scores rank by row."""

    def __init__(self, k: int) -> None:
        """Start with none."""
        self._k = k
        self._rows = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0, dtype=np.float32)

    def offer(self, scores: npt.NDArray[np.float32], first: int, above: float) -> None:
        """Take the scores, of the rows from `first` on, that are greater than `above`."""
        full = len(self._rows) == self._k
        places = np.flatnonzero(scores > (self._scores[-1] if full else np.float32(above)))
        rows, found = places + first, scores[places]
        if self._k <= _INSERT_UP_TO:
            self._rows, self._scores = _insert(self._k, self._rows, self._scores, rows, found)
        else:
            rows, found = np.concatenate([self._rows, rows]), np.concatenate([self._scores, found])
            order = np.argsort(-found, kind="stable")[: self._k]
            self._rows, self._scores = rows[order], found[order]

    def ranked(self) -> Ranked:
        """Return the best rows, best first."""
        return self._rows, self._scores


@compiled
def _insert(
    k: int,
    best_rows: npt.NDArray[np.int64],
    best_scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
) -> Ranked:
    """Return the `k` best of those so far, best first, and of further rows, which all come later."""
    count = len(best_rows)
    all_rows = np.empty(k, dtype=np.int64)
    all_scores = np.empty(k, dtype=np.float32)
    all_rows[:count], all_scores[:count] = best_rows, best_scores
    for place in range(len(rows)):
        score = scores[place]
        if count == k and score <= all_scores[k - 1]:
            continue
        if count < k:
            count += 1
        position = count - 1
        while position > 0 and all_scores[position - 1] < score:
            all_scores[position] = all_scores[position - 1]
            all_rows[position] = all_rows[position - 1]
            position -= 1
        all_scores[position] = score
        all_rows[position] = rows[place]
    return all_rows[:count], all_scores[:count]


def to_hits(corpus: Corpus, ranked: list[Ranked]) -> list[list[Hit]]:
    """Read the ranked passages from the corpus, all queries in one go."""
    all_rows = np.unique(np.concatenate([rows for rows, _ in ranked])) if ranked else np.empty(0, dtype=np.int64)
    passages = dict(zip(all_rows.tolist(), corpus.rows(all_rows.tolist()), strict=True))
    return [
        [
            Hit(passages[row], score, rank)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        ]
        for rows, scores in ranked
    ]
