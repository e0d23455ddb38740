"""Gzipped files: their content, and why it cannot be read to its end."""

import gzip
import io
import zlib
from typing import BinaryIO, cast

from exsearch.core.foreign import GZIP

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading one raises."""
_BUFFER = 1 << 20
"""Bytes."""


def unpacked(raw: BinaryIO) -> BinaryIO:
    """Return the content of an open file from its beginning: of one that is not gzipped the file itself."""
    packed = raw.read(len(GZIP)) == GZIP
    raw.seek(0)
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), _BUFFER) if packed else raw


def gzip_fault(error: EOFError | zlib.error | gzip.BadGzipFile) -> str:
    """Return what is wrong, in words that go on after "broken gzip file"."""
    return "it ends too early" if isinstance(error, EOFError) else "its content is damaged"
