"""Merges inverted files of BM25: those of neighbouring segments become what one of all their rows would be.

Nothing here depends on what a code means: codes move along with their postings.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exsearch.core.atomic import is_file
from exsearch.core.mapping import map_array, save_array
from exsearch.corpus.layout import Rows
from exsearch.retrieval.bm25.inverted import Numbers, save_starts
from exsearch.retrieval.index.folder import IndexSegment


def merge_postings(parts: list[IndexSegment], deleted: list[Rows], folder: Path) -> None:
    """Write the merged inverted file of `parts`, which are neighbours, to `folder`.

    Postings of the `deleted` rows, counted from each part's first row, are dropped. Since scores depend on the number
    of passages with a term, deleted ones included, `lost.npy` records the number of postings that each term has lost.
    """
    vocabularies = [map_array(part.folder / "terms.npy") for part in parts]
    terms = np.unique(np.concatenate(vocabularies))
    lost_counts = np.zeros(len(terms), dtype=np.int64)
    remaining: list[tuple[Numbers, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
    for part, own, deleted_rows in zip(parts, vocabularies, deleted, strict=True):
        places = np.searchsorted(terms, own)
        rows, codes, titles = (map_array(part.folder / f"{name}.npy") for name in ("rows", "codes", "titles"))
        group, title_of = _groups(places, map_array(part.folder / "starts.npy"), titles)
        is_deleted = np.zeros(len(part.rows), dtype=np.bool_)
        is_deleted[deleted_rows] = True
        stays = ~is_deleted[rows]
        lost_counts += np.bincount(group[~stays] >> 1, minlength=len(terms))
        if is_file(before := part.folder / "lost.npy"):
            lost_counts[places] += map_array(before)
        shifted = rows[stays] + np.uint32(part.rows.start - parts[0].rows.start)
        remaining.append((group[stays], shifted, codes[stays], title_of[stays]))
    group, row, code, title = (np.concatenate(pieces) for pieces in zip(*remaining, strict=True))
    order = np.argsort(group, kind="stable")  # rows stay in order within a group
    titled = group[order] & 1 == 1
    save_array(folder / "terms.npy", terms)
    save_starts(
        folder,
        np.bincount(group >> 1, minlength=len(terms)),
        np.bincount(group[group & 1 == 1] >> 1, minlength=len(terms)),
    )
    save_array(folder / "rows.npy", row[order])
    save_array(folder / "codes.npy", code[order])
    save_array(folder / "titles.npy", title[order][titled])
    save_array(folder / "words.npy", np.sum([map_array(part.folder / "words.npy") for part in parts], axis=0))
    if lost_counts.any():
        save_array(folder / "lost.npy", lost_counts)


def _groups(
    places: Numbers, starts: npt.NDArray[Any], titles: npt.NDArray[np.uint16]
) -> tuple[Numbers, npt.NDArray[np.uint16]]:
    """Return, for each posting, twice its term's position, plus 1 if it has a title code; and that code, or 0."""
    postings, titled = np.diff(starts.astype(np.int64), axis=0).T
    within = np.arange(postings.sum()) - np.repeat(starts[:-1, 0].astype(np.int64), postings)
    has_title = within >= np.repeat(postings - titled, postings)
    title_of = np.zeros(len(has_title), dtype=np.uint16)
    title_of[has_title] = titles
    return np.repeat(places, postings) << 1 | has_title, title_of
