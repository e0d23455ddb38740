"""Passages in tables: Parquet files, and Hugging Face datasets on disk or from the hub."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from exsearch.core.errors import UsageError
from exsearch.core.parquet import open_parquet, table_fault
from exsearch.core.shape import not_utf8
from exsearch.core.trouble import machine_trouble
from exsearch.corpus.passage import Passage
from exsearch.corpus.source import Counts, Malformed, Place, Unit, file_identity, make_passage

HUB = "hf:"
_BATCH_ROWS = 1024
_COLUMNS = ("id", "title", "text", "contents")


class TableSource:
    """Rows of Arrow tables with columns id, title, text or id, contents."""

    counts: Counts = "row"
    unit: Unit = "rows"
    start = Place()

    def __init__(
        self, name: str, identity: str, columns: list[str], size: int, batches: Callable[[int], Iterator[Any]]
    ) -> None:
        """Describe a table of `size` rows; `batches(row)` yields its batches from that row on, with these `columns`."""
        if not ("id" in columns and {"text", "contents"} & set(columns)):
            raise UsageError(f"{name}: has columns {', '.join(columns)}; needs id, text (and title), or id, contents")
        self.name, self.identity, self.size = name, identity, size
        self.line = 0
        self._columns = columns
        self._batches = batches

    @property
    def place(self) -> Place:
        """Row where the next one starts."""
        return Place(self.line)

    @property
    def done(self) -> int:
        """Rows read."""
        return self.line

    def rows(self, start: Place) -> Iterator[Passage | Malformed]:
        """Yield the rows from `start` on. Raises UsageError if nothing more can be read."""
        self.line = start.line
        try:
            for batch in self._batches(start.line):
                for values in zip(*(self._column(batch, name) for name in _COLUMNS), strict=True):
                    self.line += 1
                    yield _passage(values)
        except (pa.ArrowException, OSError) as error:
            trouble = machine_trouble(error, Path(self.name))
            raise trouble or UsageError(f"{self.name}: {table_fault(error, 'table', self.line)}") from None

    def _column(self, batch: Any, name: str) -> list[object]:
        if name not in self._columns:
            return [None] * batch.num_rows
        column = batch.column(name)
        try:
            values: list[object] = column.to_pylist()
        except UnicodeDecodeError:
            values = column.cast(pa.large_binary()).to_pylist()
        return values


def _passage(values: tuple[object, ...]) -> Passage | Malformed:
    try:
        return make_passage(*(value.decode() if isinstance(value, bytes) else value for value in values))
    except UnicodeDecodeError as error:
        return Malformed(not_utf8(error), values[0] if isinstance(values[0], str) else None)


def parquet_source(path: Path) -> TableSource:
    """Return a Parquet file as a source; raises UsageError if it is broken or lacks the columns."""
    file = open_parquet(path)
    columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]

    def batches(start: int) -> Iterator[Any]:
        first = 0
        while first < len(groups) and start >= groups[first]:
            start -= groups[first]
            first += 1
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=range(first, len(groups)), columns=columns):
            yield batch.slice(start)
            start = max(0, start - batch.num_rows)

    return TableSource(str(path), file_identity(path), file.schema_arrow.names, sum(groups), batches)


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `folder` was written by the `save_to_disk` of `datasets`."""
    return any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def open_dataset(name: str) -> TableSource:
    """Return a Hugging Face dataset as a source: a saved folder, or hf:OWNER/NAME[:CONFIG][@SPLIT] from the hub.

    Raises UsageError if it cannot be loaded, lacks the columns, or has several splits and none is named.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{name}: needs the library datasets (pip install 'exsearch[datasets]')") from None
    try:
        if name.startswith(HUB):
            address, _, split = name.removeprefix(HUB).partition("@")
            repository, _, config = address.partition(":")
            from exsearch.network.http_client import check_hub

            check_hub(repository)
            dataset: Any = datasets.load_dataset(repository, config or None, split=split or None)
        else:
            dataset = datasets.load_from_disk(name)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        if trouble := machine_trouble(error, Path(name)):
            raise trouble from None
        if isinstance(error, pa.ArrowException | json.JSONDecodeError):
            raise UsageError(f"{name}: {table_fault(error, 'data set')}") from None
        raise UsageError(f"{name}: {str(error).partition(chr(10))[0]}") from None
    if isinstance(dataset, dict):
        if len(dataset) > 1:
            one = f"{name}@{next(iter(dataset))}" if name.startswith(HUB) else str(Path(name) / next(iter(dataset)))
            raise UsageError(f"{name}: has the splits {', '.join(dataset)}; name one, such as {one}")
        [dataset] = dataset.values()

    def batches(start: int) -> Iterator[Any]:
        tables = dataset.with_format("arrow")
        return (tables[first : first + _BATCH_ROWS] for first in range(start, len(dataset), _BATCH_ROWS))

    return TableSource(name, dataset._fingerprint, dataset.column_names, len(dataset), batches)
