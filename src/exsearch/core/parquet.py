"""Why a Parquet file, or another table of Arrow's, cannot be read."""

import pyarrow as pa


def table_fault(error: Exception, thing: str, row: int = 0) -> str:
    """Return what is wrong with the `thing`, such as a Parquet file, of which so many rows could be read."""
    where = f" after row {row}" if row else ""
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"{thing} with a kind of column that is not read{where}; write plain texts, numbers and lists of them"
    return f"broken {thing}{where}; write or fetch it again"
