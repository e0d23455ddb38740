"""Ids of passages, questions and predictions, as files write them."""

import math

Id = str | int | float


def id_text(id: object) -> str | None:
    """Return an id as a text; None if there is none: null, NaN (a table's null among numbers), or only blanks.

    Tables convert integers next to nulls to floats, so whole numbers are written as integers. Raises ValueError for
    anything else than a string or a whole number.
    """
    if isinstance(id, str):
        return id if id.strip() else None
    if id is None or (isinstance(id, float) and math.isnan(id)):
        return None
    if isinstance(id, float) and id.is_integer():
        id = int(id)
    if isinstance(id, bool) or not isinstance(id, int):
        description = str(id) if isinstance(id, float | bool) else "of another kind"
        raise ValueError(f"its id is {description}; it must be a string or a whole number")
    return str(id)
