"""Files that are no text in UTF-8, named by their first bytes: packed ones, tables, and text in another encoding."""

import codecs
import re
from pathlib import Path

from exsearch.core.errors import UsageError

HEAD = 16
"""So many bytes tell."""
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
    (re.compile(rb"PK\x03\x04"), "a ZIP archive; take the file out of it first (unzip)"),
    (re.compile(re.escape(PARQUET)), "a Parquet file, where text must be"),
)
_WIDE = re.compile(rb"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")
"""Letters of ASCII in UTF-16, without a mark in front."""


def foreign(head: bytes) -> str | None:
    """Return what a file is that begins with these bytes, and what to do; None if nothing speaks against UTF-8."""
    for name, marks in _ENCODINGS:
        if head.startswith(marks):
            return f"written in {name}; save it as UTF-8"
    if _WIDE.match(head):
        return "written in UTF-16; save it as UTF-8"
    return next((said for pattern, said in _PACKED if pattern.match(head)), None)


def require_text(path: Path, head: bytes) -> None:
    """Raise UsageError, with what to do, if the file at `path` begins with `head` and so is no text in UTF-8."""
    if said := foreign(head[:HEAD]):
        raise UsageError(f"{path}: is {said}")


def require_line_feeds(path: Path, line: bytes) -> None:
    """Raise UsageError if a line of a text is several that end in carriage returns alone."""
    if b"\r" in line.rstrip(b"\r\n"):
        raise UsageError(f"{path}: its lines end in carriage returns alone; save it with line feeds")
