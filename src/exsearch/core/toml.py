"""TOML files, and where they are malformed."""

import re
import tomllib
from pathlib import Path
from typing import Any

from exsearch.core.atomic import read_text
from exsearch.core.errors import UsageError

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)$")
"""The end of tomllib's messages. In Python 3.14, the error also has attributes for it."""
_SHOWN = 60
"""Maximum characters of a line in a message."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises UsageError, with file and line, if it is missing or malformed."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}{_fault(text, error)}") from None
    except (RecursionError, ValueError):  # the latter for a number of thousands of digits
        raise UsageError(f"{path}: nested too deeply, or a number with too many digits") from None


def _fault(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return where a text stops being TOML and, in simple cases, why."""
    place = _PLACE.search(str(error))
    if place is None:
        return ": not valid TOML: it ends too early"
    number, column = int(place[1]), int(place[2])
    lines = text.splitlines()
    line = lines[number - 1] if number <= len(lines) else ""
    excerpt = line.strip()[:_SHOWN]
    if _is_toml(line) and _is_toml("\n".join(lines[: number - 1])):
        return f", line {number}: sets a key again: {excerpt}"
    hint = " (texts need quotes)" if "=" in line else ""
    return f", line {number}, column {column}: not valid TOML{hint}: {excerpt}"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
