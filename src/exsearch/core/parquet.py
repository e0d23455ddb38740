"""Parquet files, and why they, or other tables of Arrow's, cannot be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from exsearch.core.errors import UsageError
from exsearch.core.foreign import PARQUET
from exsearch.core.trouble import machine_trouble


def is_parquet(path: Path) -> bool:
    """Return whether the file at `path` is one, by its first bytes; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file; raises UsageError if it is broken, ExSearchError if the machine fails."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise machine_trouble(error, path) or UsageError(f"{path}: {table_fault(error, 'Parquet file')}") from None


def table_fault(error: Exception, thing: str, row: int = 0) -> str:
    """Return what is wrong with the `thing`, such as a Parquet file, of which so many rows could be read."""
    where = f" after row {row}" if row else ""
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"{thing} with a kind of column that is not read{where}; write plain texts, numbers and lists of them"
    return f"broken {thing}{where}; write or fetch it again"
