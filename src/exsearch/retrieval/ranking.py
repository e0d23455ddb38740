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


@compiled
def best_rows(scores: npt.NDArray[np.float32], k: int, above: float) -> Ranked:
    """Return the at most `k` rows with the highest scores greater than `above`; equal scores by row."""
    k = min(k, len(scores))
    rows = np.empty(k, dtype=np.int64)
    best = np.empty(k, dtype=np.float32)
    count = 0
    for row in range(len(scores)):
        score = scores[row]
        if score <= above or (count == k and score <= best[k - 1]):
            continue
        if count < k:
            count += 1
        position = count - 1
        while position > 0 and best[position - 1] < score:
            best[position] = best[position - 1]
            rows[position] = rows[position - 1]
            position -= 1
        best[position] = score
        rows[position] = row
    return rows[:count], best[:count]


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
