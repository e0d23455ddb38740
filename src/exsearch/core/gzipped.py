"""Why a gzipped file cannot be read to its end."""

import gzip
import zlib

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading one raises."""


def gzip_fault(error: EOFError | zlib.error | gzip.BadGzipFile) -> str:
    """Return what is wrong, in words that go on after "broken gzip file"."""
    return "it ends too early" if isinstance(error, EOFError) else "its content is damaged"
