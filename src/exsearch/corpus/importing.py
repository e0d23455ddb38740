"""Imports passages from files: streamed, counted, and resumed after an interruption."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa

from exsearch.core.atomic import behind_link, remove, replace_atomically
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, read_jsonl, write_json
from exsearch.core.locks import sole_writer
from exsearch.core.parquet import is_parquet
from exsearch.core.progress import progress
from exsearch.core.scratch import remove_abandoned
from exsearch.core.trouble import damage_reason, machine_trouble
from exsearch.corpus.layout import INFO, Addition, Rows, SegmentInfo
from exsearch.corpus.lines import recognise_lines
from exsearch.corpus.passage import Passage
from exsearch.corpus.source import Malformed, PassageSource, Place
from exsearch.corpus.store import Corpus, last_addition, none_deleted, refuse_to_replace
from exsearch.corpus.tables import HUB, is_saved_dataset, open_dataset, parquet_source
from exsearch.corpus.writer import SEGMENT_ROWS, CorpusWriter, discard_unlisted

MAX_EXAMPLES_SHOWN = 5
"""Maximum number of skipped rows to show."""
READ_WORDS = 120
"""Rough number of English words that an agent reads of a passage: 160 tokens, unless `agent.passage_tokens` differs."""
_CHUNK = 2048
"""Maximum number of skipped rows in memory; after this many, a wrong kind of file is recognised."""
_PROGRESS = "import.json"

Say = Callable[[str], None]


class SkippedRow(msgspec.Struct, frozen=True):
    """A skipped row: a line of rejected.jsonl."""

    line: int
    """Line where it starts in a text file, or row in a table; from 1."""
    reason: str
    id: str | None = None


class ImportedPassages(msgspec.Struct, frozen=True):
    """The result of an import or an extension."""

    passages: int
    """Number of passages added."""
    malformed: int
    duplicates: int
    rejected: Path | None
    """The file that lists all skipped rows; None if there are none."""
    first: list[str]
    """The first few of them, described."""
    long: int = 0
    """Number of passages with more than READ_WORDS words."""


class _Progress(msgspec.Struct):
    """What is finished; stored with the segments during an import."""

    job: str
    """Fingerprint of the source, of `strict`, and of the corpus before the import."""
    segments: list[SegmentInfo]
    place: Place
    """Position in the source where the first row after these segments starts."""
    malformed: int = 0
    duplicates: int = 0
    long: int = 0
    rejected_bytes: int = 0
    """Bytes of the list of skipped rows."""


def open_source(name: str) -> PassageSource:
    """Return a file or data set to import, its format recognised by content. Raises UsageError if there is none."""
    path = Path(name)
    if name.startswith(HUB) or is_saved_dataset(path):
        return open_dataset(name)
    if path.is_dir():
        raise UsageError(
            f"{path}: is a folder, but was not written by save_to_disk of the library datasets; a folder of "
            "documents is a corpus of its own (exsearch corpus import)"
        )
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is not a regular file; copy its content to one first")
    try:
        parquet = is_parquet(path)
    except OSError as error:
        raise machine_trouble(error) or UsageError(f"{path}: {error.strerror}") from None
    return parquet_source(path) if parquet else recognise_lines(path)


def import_corpus(
    name: str | Path, out: Path, strict: bool = False, say: Say = lambda line: None, segment_rows: int = SEGMENT_ROWS
) -> ImportedPassages:
    """Write the passages of a file or data set as the corpus folder `out`, which is replaced once all are written.

    Malformed rows and duplicate ids are skipped, counted and listed; with `strict`, the first raises UsageError. So
    does a source that cannot be read to its end, or in which at least half of the rows are malformed; nothing is left
    behind then. After an interruption, the same call resumes after the last finished segment, and passes `say` a
    message about it.
    """
    return import_source(open_source(str(name)), out, strict, say, segment_rows)


def import_source(
    source: PassageSource,
    out: Path,
    strict: bool = False,
    say: Say = lambda line: None,
    segment_rows: int = SEGMENT_ROWS,
    also: Callable[[Path], None] = lambda folder: None,
) -> ImportedPassages:
    """Import an opened source, as `import_corpus` does; `also` writes what else belongs in the folder, in the end."""
    refuse_to_replace(out, INFO)
    folder = behind_link(out)
    with sole_writer(folder):
        partial = folder.with_name(f".{folder.name}.partial")
        if not (partial / _PROGRESS).exists():
            remove(partial)
        partial.mkdir(exist_ok=True)
        job = _Import(source, partial, None, strict, say, segment_rows)
        try:
            imported = job.run()
        except UsageError:
            remove(partial)
            raise
        job.complete()
        also(partial)
        replace_atomically(partial, folder)
    return msgspec.structs.replace(imported, rejected=imported.rejected and out / imported.rejected.name)


def extend_corpus(
    folder: Path, name: str | Path, strict: bool = False, say: Say = lambda line: None, segment_rows: int = SEGMENT_ROWS
) -> ImportedPassages:
    """Append the passages of a file or data set to the corpus `folder`.

    Works like `import_corpus`. The corpus does not change until all passages are written; a row whose id the corpus
    already has is a duplicate. If the source is what was added last, nothing changes, and the result is the same:
    whether an interrupted call had just finished cannot be known otherwise.
    """
    return extend_by(open_source(str(name)), folder, strict, say, segment_rows)


def extend_by(
    source: PassageSource,
    folder: Path,
    strict: bool = False,
    say: Say = lambda line: None,
    segment_rows: int = SEGMENT_ROWS,
) -> ImportedPassages:
    """Append an opened source, as `extend_corpus` does."""
    Corpus.open(folder)
    with sole_writer(folder):
        corpus = Corpus.open(folder)
        last = last_addition(corpus)
        if last is not None and last.job == _read_as(source, strict):
            remove_abandoned(folder)
            discard_unlisted(folder, corpus.segments)
            say(f"{source.name} was added already; nothing has changed since")
            return _result(folder, source, last)
        job = _Import(source, folder, corpus, strict, say, segment_rows)
        try:
            imported = job.run()
        except UsageError:
            job.discard()
            raise
        job.complete()
    return imported


def _read_as(source: PassageSource, strict: bool) -> str:
    return fingerprint([source.identity, strict])


def _rejected(folder: Path, rows_before: int) -> Path:
    return folder / (f"rejected-{rows_before}.jsonl" if rows_before else "rejected.jsonl")


def _result(folder: Path, source: PassageSource, added: Addition) -> ImportedPassages:
    """Return what an addition did, as it is reported."""
    passages, counts = added.rows - added.rows_before, (added.malformed, added.duplicates)
    if not any(counts):
        return ImportedPassages(passages, *counts, None, [])
    rejected = _rejected(folder, added.rows_before)
    if not rejected.exists():  # somebody has read and removed it
        return ImportedPassages(passages, *counts, None, [])
    first = [_describe(source, row) for row in islice(read_jsonl(rejected, SkippedRow), MAX_EXAMPLES_SHOWN)]
    return ImportedPassages(passages, *counts, rejected, first)


def _describe(source: PassageSource, row: SkippedRow) -> str:
    suffix = "" if row.id is None else f" (id {row.id!r})"
    return f"{source.counts} {row.line}: {row.reason}{suffix}"


class _Import:
    """The import of one source into a corpus folder, after the segments of an existing corpus, if there is one."""

    def __init__(
        self, source: PassageSource, folder: Path, corpus: Corpus | None, strict: bool, say: Say, segment_rows: int
    ) -> None:
        self._source, self._folder, self._strict, self._say = source, folder, strict, say
        self._segments = corpus.segments if corpus else []
        self._rows_before = len(corpus) if corpus else 0
        self._deleted = len(corpus.deleted) if corpus else 0
        self._rejected = _rejected(folder, self._rows_before)
        job = fingerprint([source.identity, strict, corpus and corpus.fingerprint])
        self._progress = _Progress(job, self._segments, source.start)
        self._writer = self._resume(corpus.deleted if corpus else none_deleted(), segment_rows)

    def run(self) -> ImportedPassages:
        """Write the rows that are not written yet."""
        writer = self._writer
        self._rejected.touch()
        try:
            with self._rejected.open("r+b") as rejected:
                rejected.truncate(self._progress.rejected_bytes)
                rejected.seek(self._progress.rejected_bytes)
                self._read(rejected)
            writer.finish()
        finally:
            writer.close()
        added = self._addition
        if not added.malformed + added.duplicates:
            remove(self._rejected)
        return msgspec.structs.replace(_result(self._folder, self._source, added), long=self._progress.long)

    def complete(self) -> None:
        """Make the written rows part of the corpus."""
        # first, so that an interruption between the two repeats everything, and reports it
        (self._folder / _PROGRESS).unlink(missing_ok=True)
        self._writer.commit(self._addition if self._rows_before else None)

    @property
    def _addition(self) -> Addition:
        counts = self._progress.malformed, self._progress.duplicates
        job = _read_as(self._source, self._strict)
        return Addition(job, self._rows_before, self._writer.rows, self._deleted, *counts)

    def discard(self) -> None:
        """Remove what the import has written, but not the corpus that existed before."""
        discard_unlisted(self._folder, self._segments)
        remove(self._rejected)
        remove(self._folder / _PROGRESS)

    def _resume(self, deleted: Rows, segment_rows: int) -> CorpusWriter:
        """Return a writer that continues after what an interrupted import of the same source has finished."""
        if (self._folder / _PROGRESS).exists():
            try:
                saved = read_json(self._folder / _PROGRESS, _Progress)
                if saved.job != self._progress.job:
                    raise ValueError("it is of another source")
                if self._rejected.stat().st_size < saved.rejected_bytes:
                    raise ValueError(f"{self._rejected.name} is torn")
                writer = CorpusWriter(self._folder, saved.segments, deleted, segment_rows)
            except (UsageError, OSError, ValueError, EOFError, IndexError, pa.ArrowException) as error:
                if trouble := machine_trouble(error):
                    raise trouble from None
                self._say(f"starting over: the rest of an interrupted import cannot be used{damage_reason(error)}")
            else:
                self._progress = saved
                self._say(f"resuming after {writer.rows - self._rows_before} passages")
                return writer
        return CorpusWriter(self._folder, self._segments, deleted, segment_rows)

    def _read(self, rejected: BinaryIO) -> None:
        """Append the rest of the source, and list the rows skipped."""
        source, writer, encoder, reported = self._source, self._writer, msgspec.json.Encoder(), 0
        rows = source.rows(self._progress.place)
        with progress(f"reading {Path(source.name).name}, {source.unit}", source.size) as bar:
            while True:
                finished = len(writer.segments)
                ended, skipped = self._append_chunk(rows)
                if self._strict and skipped:
                    raise UsageError(f"{source.name}, {_describe(source, skipped[0])}")
                rejected.write(b"".join(encoder.encode(row) + b"\n" for row in skipped))
                rejected.flush()
                self._refuse_wrong_kind(ended)
                if len(writer.segments) > finished:
                    self._progress.segments, self._progress.place = writer.segments, source.place
                    self._progress.rejected_bytes = rejected.tell()
                    write_json(self._folder / _PROGRESS, self._progress)
                if ended:
                    break
                done = min(source.done, source.size - 1)  # the last unit counts only when everything is written
                bar.advance(done - reported, f"{writer.rows} passages")
                reported = done
            if not writer.rows:
                raise UsageError(f"{source.name}: has no passages")
            bar.advance(source.size - reported)

    @property
    def _nothing_found(self) -> str:
        return "no document can be read" if self._source.counts == "file" else "this is not a corpus in a known format"

    def _append_chunk(self, rows: Iterator[Passage | Malformed]) -> tuple[bool, list[SkippedRow]]:
        """Append as many rows as the writer has room for. Return whether they were the last, and the rows skipped."""
        passages: list[Passage] = []
        lines: list[int] = []
        skipped: list[SkippedRow] = []
        room, ended = self._writer.room, True
        for row in rows:
            if isinstance(row, Passage):
                passages.append(row)
                lines.append(self._source.line)
            else:
                skipped.append(SkippedRow(self._source.line, row.reason, row.id))
            if len(passages) == room or len(skipped) == _CHUNK:
                ended = False
                break
        self._progress.malformed += len(skipped)
        duplicates = self._writer.append(passages)
        self._progress.duplicates += len(duplicates)
        accepted = (passage for index, passage in enumerate(passages) if index not in duplicates)
        self._progress.long += sum(passage.text.count(" ") >= READ_WORDS for passage in accepted)
        for index, holder in duplicates.items():
            reason = f"the id occurs twice, passage {holder + 1} of the corpus has it"
            skipped.append(SkippedRow(lines[index], reason, passages[index].id))
        return ended, sorted(skipped, key=lambda row: row.line)

    def _refuse_wrong_kind(self, ended: bool) -> None:
        malformed = self._progress.malformed
        rows_read = self._writer.rows - self._rows_before + malformed + self._progress.duplicates
        if self._source.counts == "file" and malformed < rows_read:
            return  # files that cannot be read say nothing of the others
        if malformed and malformed * 2 >= rows_read and (ended or rows_read >= _CHUNK):
            first = next(read_jsonl(self._rejected, SkippedRow))
            raise UsageError(
                f"{self._source.name}, {_describe(self._source, first)}; {malformed} of {rows_read} rows are "
                f"malformed: {self._nothing_found}"
            )
