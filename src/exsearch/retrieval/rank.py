"""Turns scores into hits: the best rows, with ties in row order."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from exsearch.corpus.passage import Hit
from exsearch.corpus.store import Corpus

Function = TypeVar("Function", bound=Callable[..., Any])
Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Rows and their scores, best first."""


def compiled(function: Function) -> Function:
    """Compile `function` to machine code at its first call; cache the result on disk for the next process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba has no writable folder, as in a read-only container
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


INSERT_UP_TO = 256
"""Maximum number of rows to keep in order one by one; above it, sorting at the end is cheaper."""
_BLOCK = 64


class BestRows:
    """The `k` best of the rows offered, which come in ascending order; equal scores rank by row."""

    def __init__(self, k: int) -> None:
        """Start without rows."""
        self._k = k
        self._count = 0
        self._rows = np.empty(k, dtype=np.int64)
        self._scores = np.empty(k, dtype=np.float32)

    def offer(self, scores: npt.NDArray[np.float32], first: int, above: float) -> None:
        """Take the scores that are greater than `above`; the first score is of row `first`."""
        if self._k <= INSERT_UP_TO:
            self._count = insert_best(self._rows, self._scores, self._count, scores, first, above)
            return
        places = np.flatnonzero(scores > np.float32(above))
        rows = np.concatenate([self._rows[: self._count], places + first])
        candidates = np.concatenate([self._scores[: self._count], scores[places]])
        order = np.argsort(-candidates, kind="stable")[: self._k]
        self._count = len(order)
        self._rows[: self._count], self._scores[: self._count] = rows[order], candidates[order]

    def ranked(self) -> Ranked:
        """Return the best rows, best first."""
        return self._rows[: self._count], self._scores[: self._count]


@compiled
def insert_best(
    best_rows: npt.NDArray[np.int64],
    best_scores: npt.NDArray[np.float32],
    count: int,
    scores: npt.NDArray[np.float32],
    first: int,
    above: float,
) -> int:
    """Insert later rows into the `count` best so far, best first; return the new number of best rows."""
    k = len(best_rows)
    least = best_scores[k - 1] if count == k else np.float32(above)
    blocks = scores[: len(scores) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    for number in range(len(blocks) + 1):
        block = blocks[number] if number < len(blocks) else scores[len(blocks) * _BLOCK :]
        if number < len(blocks):
            promising = np.uint8(0)
            for place in range(_BLOCK):  # compiles to a few instructions per block
                promising |= np.uint8(block[place] > least)
            if not promising:
                continue
        for place in range(len(block)):
            score = block[place]
            if not score > least:
                continue
            if count < k:
                count += 1
            position = count - 1
            while position > 0 and best_scores[position - 1] < score:
                best_scores[position] = best_scores[position - 1]
                best_rows[position] = best_rows[position - 1]
                position -= 1
            best_scores[position] = score
            best_rows[position] = first + number * _BLOCK + place
            if count == k:
                least = best_scores[k - 1]
    return count


def to_hits(corpus: Corpus, ranked: list[Ranked]) -> list[list[Hit]]:
    """Read the ranked passages from the corpus, for all queries at once."""
    all_rows = np.unique(np.concatenate([rows for rows, _ in ranked])) if ranked else np.empty(0, dtype=np.int64)
    passages = dict(zip(all_rows.tolist(), corpus.rows(all_rows.tolist()), strict=True))
    return [
        [
            Hit(passages[row], score, rank)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        ]
        for rows, scores in ranked
    ]
