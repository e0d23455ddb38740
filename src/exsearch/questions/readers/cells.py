"""Parses lists of answers from the cells of a table: as JSON, or as Python or NumPy print a list."""

import ast
import io
import tokenize
from itertools import pairwise

import msgspec

from exsearch.questions.readers.annotated import Text, Texts

_NO_LIST = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
"""Exceptions for a text that is not a list, as documented for `ast.literal_eval`."""
_ITEMS = {tokenize.STRING, tokenize.NUMBER}
_UNSEEN = (tokenize.NL, tokenize.COMMENT)
"""Characters that may be between two items besides spaces."""


def as_list(value: Texts) -> list[Text | None]:
    """Return one value, several, or a cell's text in the form of a JSON or Python list, as a list.

    Raises ValueError for a list without commas between its items.
    """
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = _written(value)
    return value if isinstance(value, list) else [value]


def _written(cell: str) -> str | list[Text | None]:
    try:
        return msgspec.convert(msgspec.json.decode(cell), list[Text | None])
    except _NO_LIST:
        pass
    if _runs_together(cell):
        raise ValueError(
            "a list has items without a comma between them, as NumPy and pandas print it; "
            "write it with commas or as JSON"
        )
    try:
        return msgspec.convert(ast.literal_eval(cell), list[Text | None])
    except _NO_LIST:
        return cell


def _runs_together(cell: str) -> bool:
    """Return whether an item follows another without a comma; Python would join two texts."""
    lines = io.StringIO(cell, newline=None)
    try:
        kinds = [token.type for token in tokenize.generate_tokens(lines.readline) if token.type not in _UNSEEN]
    except (tokenize.TokenError, *_NO_LIST):
        return False
    # Python 3.12 and later raise the error that earlier versions return as a token.
    return tokenize.ERRORTOKEN not in kinds and any(_ITEMS.issuperset(pair) for pair in pairwise(kinds))
