"""Lists of answers as the cells of a table write them: in JSON, or as Python or NumPy print a list."""

import ast
import io
import tokenize
from itertools import pairwise

import msgspec

from exsearch.questions.readers.annotated import Text, Texts

_NO_LIST = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
"""What reading a text that is no list raises; `ast.literal_eval` is documented to raise each of them."""
_ITEMS = {tokenize.STRING, tokenize.NUMBER}
_UNSEEN = (tokenize.NL, tokenize.COMMENT)
"""What may stand between two items beside spaces."""


def as_list(value: Texts) -> list[Text | None]:
    """Return one value, several, or what a cell writes like a list in JSON or Python, as a list.

    Raises ValueError for a list whose items have no comma between them.
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
    """Return whether an item follows another without a comma: of two texts Python would make one."""
    lines = io.StringIO(cell, newline=None)
    try:
        kinds = [token.type for token in tokenize.generate_tokens(lines.readline) if token.type not in _UNSEEN]
    except (tokenize.TokenError, *_NO_LIST):
        return False
    # Python 3.12 and later raise the error that is a token before.
    return tokenize.ERRORTOKEN not in kinds and any(_ITEMS.issuperset(pair) for pair in pairwise(kinds))
