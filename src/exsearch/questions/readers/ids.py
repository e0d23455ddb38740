"""The names of the id field, in files of questions and in files of predictions."""

from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import convert
from exsearch.questions.readers.annotated import known_id


class _Ids(msgspec.Struct):
    id: Id | None = None
    question_id: Id | None = None
    query_id: Id | None = None
    native_id: Id | None = msgspec.field(name="_id", default=None)
    qid: Id | None = None


IDS = _Ids.__struct_encode_fields__
"""In order of precedence if a record has several."""


def read_id(fields: dict[str, Any], otherwise: str) -> str:
    """Return the first id of a record. Raises ValueError for one that is neither a text nor a whole number."""
    return known_id(otherwise, *msgspec.structs.astuple(convert(fields, _Ids)))
