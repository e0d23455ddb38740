"""TOML files, and where one is none."""

import re
import tomllib
from pathlib import Path
from typing import Any

from exsearch.core.atomic import read_text
from exsearch.core.errors import UsageError

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)$")
"""How tomllib ends a message. In Python 3.14 the error has attributes for it, too."""
_SHOWN = 60
"""Characters of a line that a message shows."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise UsageError naming file and line if it is missing or malformed."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}{_fault(text, error)}") from None


def _fault(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return where a text ceases to be TOML and, where that is simple, why."""
    place = _PLACE.search(str(error))
    if place is None:
        return ": not valid TOML: it ends too early"
    number, column = int(place[1]), int(place[2])
    lines = text.splitlines()
    line = lines[number - 1] if number <= len(lines) else ""
    shown = line.strip()[:_SHOWN]
    if _is_toml(line) and _is_toml("\n".join(lines[: number - 1])):
        return f", line {number}: sets again what is set before: {shown}"
    hint = " (a text stands in quotes)" if "=" in line else ""
    return f", line {number}, column {column}: not valid TOML{hint}: {shown}"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
