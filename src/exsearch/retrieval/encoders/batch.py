"""Batches for an encoder's network: rows of similar length together, padded to the longest."""

import numpy as np

from exsearch.retrieval.encoders.base import TokenRow


def group_by_length(rows: list[TokenRow], tokens: int) -> list[list[int]]:
    """Return the numbers of the rows in groups of about `tokens` tokens each, padding included, longest rows first.

    Rows of similar length are grouped, so that there is little padding.
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number].ids)):
        if not groups or len(rows[groups[-1][0]].ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(number)
    return groups


def pad(rows: list[TokenRow], pad_id: int) -> TokenRow:
    """Return the rows as arrays of [rows, longest row]; padding is neither attended to nor counted."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    padded = TokenRow(np.full(shape, pad_id, np.int64), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))
    for number, row in enumerate(rows):
        for target, part in zip(padded, row, strict=True):
            target[number, : len(part)] = part
    return padded
