"""Merging inverted files of BM25: those of neighbouring segments become what one of all their rows would be.

Nothing here knows what the arrays mean: an element of a posting goes where its posting goes, elements of rows follow
one another, and sums over the passages are added up.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exsearch.corpus.layout import Rows
from exsearch.files import is_file
from exsearch.mapping import map_array
from exsearch.retrieval.index_folder import Segment

_PER_POSTING = ("rows", "codes")
"""The arrays with an element a posting. The first gives its row."""
_PER_ROW: tuple[str, ...] = ()
"""Those with an element a row."""
_SUMS = ("words",)
"""Those that are sums over the passages."""


def merge_postings(parts: list[Segment], deleted: list[Rows], folder: Path) -> None:
    """Write the inverted file of `parts`, neighbours, to `folder`.

    Postings of the `deleted` rows, of each part counted from its first, are left out. Scores depend on how many
    passages have a term, deleted ones included, so `lost.npy` keeps how many postings each term has lost.
    """
    vocabularies = [map_array(part.folder / "terms.npy") for part in parts]
    terms = np.unique(np.concatenate(vocabularies))
    lost = np.zeros(len(terms), dtype=np.int64)
    kept_terms: list[npt.NDArray[np.int64]] = []
    kept: list[list[npt.NDArray[Any]]] = []
    for part, own, gone in zip(parts, vocabularies, deleted, strict=True):
        places = np.searchsorted(terms, own)
        term = np.repeat(places, np.diff(map_array(part.folder / "starts.npy")))
        rows, *others = (map_array(part.folder / f"{name}.npy") for name in _PER_POSTING)
        is_gone = np.zeros(len(part.rows), dtype=np.bool_)
        is_gone[gone] = True
        stays = ~is_gone[rows]
        lost += np.bincount(term[~stays], minlength=len(terms))
        if is_file(before := part.folder / "lost.npy"):
            lost[places] += map_array(before)
        kept_terms.append(term[stays])
        shifted = rows[stays] + np.uint32(part.rows.start - parts[0].rows.start)
        kept.append([shifted, *(array[stays] for array in others)])
    term = np.concatenate(kept_terms)
    order = np.argsort(term, kind="stable")  # the rows of a term stay in order
    np.save(folder / "terms.npy", terms)
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(np.bincount(term, minlength=len(terms)))]))
    for name, pieces in zip(_PER_POSTING, zip(*kept, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(pieces)[order])
    for name in _PER_ROW:
        np.save(folder / f"{name}.npy", np.concatenate([map_array(part.folder / f"{name}.npy") for part in parts]))
    for name in _SUMS:
        total = sum(map_array(part.folder / f"{name}.npy") for part in parts)
        np.save(folder / f"{name}.npy", np.asarray(total))
    if lost.any():
        np.save(folder / "lost.npy", lost)
