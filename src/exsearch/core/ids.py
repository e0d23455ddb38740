"""Ids as people's files write them, of passages, questions and predictions."""

import math

Id = str | int | float


def id_text(id: object) -> str | None:
    """Return an id as a text; None where there is none: null, NaN (a table's null among numbers), nothing but blanks.

    A table makes floats of integers where a null is among them, so a whole number is written as an integer. Raises
    ValueError for what is neither a text nor a whole number.
    """
    if isinstance(id, str):
        return id if id.strip() else None
    if id is None or (isinstance(id, float) and math.isnan(id)):
        return None
    if isinstance(id, float) and id.is_integer():
        id = int(id)
    if isinstance(id, bool) or not isinstance(id, int):
        shown = str(id) if isinstance(id, float | bool) else "of another kind"
        raise ValueError(f"its id is {shown}; it must be a text or a whole number")
    return str(id)
