"""Recognises files that are not UTF-8 text by their first bytes: compressed files, tables, and other encodings."""

import codecs
import re
from pathlib import Path

from exsearch.core.errors import UsageError

HEAD = 16
"""Number of bytes needed."""
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"

_ENCODINGS = (
    ("UTF-32", (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    ("UTF-16", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_PACKED = (
    (re.compile(re.escape(GZIP)), "packed by gzip; unpack it first (gunzip)"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "packed by Zstandard; unpack it first (unzstd)"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "packed by bzip2; unpack it first (bunzip2)"),
    (re.compile(rb"\xfd7zXZ\x00"), "packed by xz; unpack it first (unxz)"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive; extract the file first (unzip)"),
    (re.compile(re.escape(PARQUET)), "a Parquet file, where text must be"),
)
_WIDE = re.compile(rb"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")
"""ASCII letters in UTF-16, without a byte order mark."""


def foreign(head: bytes) -> str | None:
    """Return what kind of file starts with these bytes, and what to do; None if it may be UTF-8."""
    for name, marks in _ENCODINGS:
        if head.startswith(marks):
            return f"written in {name}; save it as UTF-8"
    if _WIDE.match(head):
        return "written in UTF-16; save it as UTF-8"
    return next((description for pattern, description in _PACKED if pattern.match(head)), None)


def require_text(path: Path, head: bytes) -> None:
    """Raise UsageError, with what to do, if the first bytes `head` show that the file at `path` is not UTF-8 text."""
    if description := foreign(head[:HEAD]):
        raise UsageError(f"{path}: is {description}")


def require_line_feeds(path: Path, line: bytes) -> None:
    """Raise UsageError if what should be one line of a text is several, separated by carriage returns only."""
    if b"\r" in line.rstrip(b"\r\n"):
        raise UsageError(f"{path}: its lines end in carriage returns only; save it with line feeds")
