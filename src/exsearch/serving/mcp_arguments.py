"""Arguments of MCP tools: accepts the names that models usually give them, and rejects others."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from exsearch.core.shape import ShapeError, convert
from exsearch.wire.errors import RequestError

SYNONYMS = {
    "query": ("q", "question", "text", "search_query", "query_text"),
    "k": ("top_k", "top_n", "n", "limit", "count", "num_results", "max_results", "n_results"),
    "id": ("passage_id", "pid", "doc_id", "document_id"),
}
"""Other names under which each argument is accepted, in any case, with or without underscores: `topK` is `top_k`."""

Arguments = TypeVar("Arguments", bound=msgspec.Struct)


def read_arguments(arguments: dict[str, Any], kind: type[Arguments]) -> Arguments:
    """Return the arguments of a call. Raises RequestError if one is unknown, missing, wrong or given twice.

    An argument that is null is missing: models write it for one that they leave at its default.
    """
    names = kind.__struct_fields__
    name_of = {_plain(word): name for name in names for word in (name, *SYNONYMS.get(name, ()))}
    values: dict[str, Any] = {}
    words: dict[str, str] = {}
    for word, value in arguments.items():
        name = name_of.get(_plain(word))
        if name is None:
            raise RequestError(400, f"there is no argument `{word[:100]}`; it takes {_listed(names)}")
        if value is None:
            continue
        if name in values:
            raise RequestError(400, f"`{words[name]}` and `{word}` both mean `{name}`; give it once")
        values[name], words[name] = value, word
    if missing := [name for name in _required(kind) if name not in values]:
        raise RequestError(400, f"the argument {_listed(missing)} is missing; it takes {_listed(names)}")
    try:
        return convert(values, kind, strict=False)
    except ShapeError as error:
        raise RequestError(400, str(error)) from None


def _required(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
