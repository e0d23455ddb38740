"""JSON schemas of requests: exactly what the server accepts, including numbers and truth values as strings."""

from typing import Any

from exsearch.serving.limits import Limits

Schema = dict[str, Any]

# As Limits.unsearchable: no control characters, and at least one character that is not white space.
_CONTROL = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f"
_SEARCHABLE = rf"^[^{_CONTROL}]*[^\s\u0085{_CONTROL}][^{_CONTROL}]*$"


def query_schema(limits: Limits) -> Schema:
    """Return the schema of a query that can be searched for."""
    return {"type": "string", "maxLength": limits.query_characters, "pattern": _SEARCHABLE}


def batch_schema(limits: Limits) -> Schema:
    """Return the schema of a list of queries, empty or with at least one that can be searched for."""
    return {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": limits.queries,
        "anyOf": [{"maxItems": 0}, {"contains": query_schema(limits)}],
    }


def count_schema(maximum: int | None, nullable: bool) -> Schema:
    """Return the schema of a number of passages from 1 to `maximum` (None for no bound)."""
    number = (
        {"type": "integer", "minimum": 1} if maximum is None else {"type": "integer", "minimum": 1, "maximum": maximum}
    )
    string = {"type": "string", "pattern": "^[1-9][0-9]*$" if maximum is None else f"^({_numerals(maximum)})$"}
    return {"anyOf": [number, string, *([{"type": "null"}] if nullable else [])]}


def flag_schema() -> Schema:
    """Return the schema of a truth value."""
    string = {"type": "string", "pattern": "^([01]|[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}
    return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, string]}


def _numerals(maximum: int) -> str:
    """Return the pattern of the decimal numerals from 1 to `maximum`."""
    digits = str(maximum)
    kinds = [f"[1-9][0-9]{{{length}}}" for length in range(len(digits) - 1)]  # numerals with fewer digits
    for place, digit in enumerate(digits):  # equally long, and smaller from this digit on
        lowest = 1 if place == 0 else 0
        if int(digit) > lowest:
            kinds.append(f"{digits[:place]}[{lowest}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}")
    return "|".join([*kinds, digits])
