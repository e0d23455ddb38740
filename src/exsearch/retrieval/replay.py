"""Record and replay: searches stored in one SQLite file, answered again bit for bit without the index.

The key of a search is what decides its result: the index fingerprint, the query and k. A passage is stored once, whole,
under the hash of its content; a score as its 64 bits. Several processes may record into one file at the same time: each
answers with what another has already recorded, so that all of them agree with a later replay.

While a file is being recorded, SQLite keeps a write-ahead log next to it, which needs a local disk. The last recorder
to finish merges the log into the file; if that one was killed, `FILE-wal` belongs to the file until the next recording.
"""

import hashlib
import sqlite3
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exsearch.core.atomic import make_folder
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.trouble import machine_trouble, probe, writing
from exsearch.corpus.passage import Hit, Passage
from exsearch.retrieval.base import RetrievalError, Retriever

FORMAT = 1
_APPLICATION = 0x45785365  # "ExSe": distinguishes the file from SQLite files of other programs
_TABLES = """
    CREATE TABLE passages (hash BLOB PRIMARY KEY, id TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE indexes (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE);
    CREATE TABLE searches (
        source INTEGER NOT NULL REFERENCES indexes, query TEXT NOT NULL, k INTEGER NOT NULL, hits BLOB NOT NULL,
        PRIMARY KEY (source, query, k)
    )
"""
_HIT = struct.Struct("<16sd")
"""Hash of a passage, and its score; the hits of a search are stored in a row, best first."""
_NOT_DAMAGE = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)
"""SQLite error codes whose cause is the machine or another process."""
_WAIT = 60.0
"""Seconds to wait for other writers, each of which locks the file for milliseconds."""


class Recorder:
    """A retriever that answers from the file where it can, and asks another retriever for the rest and records that.

    Safe to share between threads; several processes may record into one file.
    """

    def __init__(self, retriever: Retriever, file: Path) -> None:
        """Record the searches of `retriever`. Raises UsageError if `file` exists and is damaged or something else."""
        self.fingerprint = retriever.fingerprint
        self._retriever = retriever
        self._searches = _Searches(file, writing=True)

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first, as the file has them from now on.

        Raises what the retriever raises, in which case nothing is recorded, and ExSearchError if the file cannot be
        written.
        """
        recorded = self._searches.read(self.fingerprint, queries, k)
        unrecorded = [query for query in dict.fromkeys(queries) if query not in recorded]
        if unrecorded:
            answers = self._retriever.search(unrecorded, k)
            self._searches.write(self.fingerprint, dict(zip(unrecorded, answers, strict=True)), k)
            # read back: if another process was first, a replay returns that one's answer
            recorded |= self._searches.read(self.fingerprint, unrecorded, k)
        return [recorded[query] for query in queries]

    def close(self) -> None:
        """Close the file; no searches are possible afterwards."""
        self._searches.close()


class Replay:
    """Answers recorded searches bit for bit, and only these. Safe to share between threads."""

    def __init__(self, file: Path, fingerprint: str | None = None) -> None:
        """Open `file` for the index with this fingerprint; by default, for the only index in it.

        Raises UsageError if `file` is missing, damaged or something else, if it has no search of that index, or if it
        has several indexes and no `fingerprint` is given.
        """
        self._file = file
        self._searches = _Searches(file, writing=False)
        recorded = self._searches.fingerprints()
        if not recorded:
            raise UsageError(f"{file}: it contains no recorded search")
        if fingerprint is None and len(recorded) > 1:
            raise UsageError(f"{file}: has searches of several indexes, name one: {', '.join(recorded)}")
        if fingerprint is not None and fingerprint not in recorded:
            raise UsageError(f"{file}: has no search of index {fingerprint}, only of {', '.join(recorded)}")
        self.fingerprint = fingerprint or recorded[0]

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return what was recorded for each query. Raises RetrievalError if nothing was."""
        recorded = self._searches.read(self.fingerprint, queries, k)
        for query in queries:
            if query not in recorded:
                excerpt = query if len(query) <= 80 else f"{query[:77]}..."
                raise RetrievalError(
                    f"{self._file}: {excerpt!r} with k = {k} was never searched in index {self.fingerprint} while "
                    "recording; record it with that index"
                )
        return [recorded[query] for query in queries]


class _Searches:
    """The file: hits, by index fingerprint, query and k."""

    def __init__(self, file: Path, writing: bool) -> None:
        self._file = file
        self._lock = threading.Lock()
        if writing:
            _make_parent(file)
        elif not file.is_file():
            raise UsageError(f"{file}: no such file")
        try:
            self._connection = sqlite3.connect(
                f"{file.resolve().as_uri()}?mode={'rwc' if writing else 'ro'}",
                uri=True,
                timeout=_WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
            self.close = weakref.finalize(self, _close, self._connection)
            if writing:
                self._create_tables_if_empty()
            self._refuse_other_files()
            if writing:
                self._connection.execute("PRAGMA journal_mode = WAL")
                # with the log, a power failure may lose the last searches but damages nothing
                self._connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise _failure(file, error) from None

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of the recorded indexes, oldest first."""
        with self._guard():
            rows = self._connection.execute("SELECT fingerprint FROM indexes ORDER BY number").fetchall()
        return [fingerprint for (fingerprint,) in rows]

    def read(self, fingerprint: str, queries: list[str], k: int) -> dict[str, list[Hit]]:
        """Return the hits of those queries that are recorded. Raises ValueError for k < 1."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        select = (
            "SELECT hits FROM searches JOIN indexes ON number = source WHERE fingerprint = ? AND query = ? AND k = ?"
        )
        rows_by_query: dict[str, list[tuple[bytes, float]]] = {}
        with self._guard(), self._transaction("BEGIN"):
            for query in dict.fromkeys(queries):
                row = self._connection.execute(select, (fingerprint, query, k)).fetchone()
                if row is not None:
                    rows_by_query[query] = list(_HIT.iter_unpack(row[0]))
            passages = {key: self._passage(key) for key in {key for hits in rows_by_query.values() for key, _ in hits}}
        return {
            query: [Hit(passages[key], score, rank) for rank, (key, score) in enumerate(hits, start=1)]
            for query, hits in rows_by_query.items()
        }

    def write(self, fingerprint: str, searches: dict[str, list[Hit]], k: int) -> None:
        """Record searches, all or none; searches that are recorded already are not changed."""
        with self._guard(), self._transaction("BEGIN IMMEDIATE"):
            run = self._connection
            run.execute("INSERT OR IGNORE INTO indexes (fingerprint) VALUES (?)", (fingerprint,))
            [source] = run.execute("SELECT number FROM indexes WHERE fingerprint = ?", (fingerprint,)).fetchone()
            for query, hits in searches.items():
                keys = [_key(hit.passage) for hit in hits]
                passages = [(hit.passage.id, hit.passage.title, hit.passage.text) for hit in hits]
                rows = [(key, *passage) for key, passage in zip(keys, passages, strict=True)]
                run.executemany("INSERT OR IGNORE INTO passages VALUES (?, ?, ?, ?)", rows)
                packed = b"".join(_HIT.pack(key, hit.score) for key, hit in zip(keys, hits, strict=True))
                run.execute("INSERT OR IGNORE INTO searches VALUES (?, ?, ?, ?)", (source, query, k, packed))

    def _passage(self, key: bytes) -> Passage:
        row = self._connection.execute("SELECT id, title, text FROM passages WHERE hash = ?", (key,)).fetchone()
        if row is None or _key(passage := Passage(*row)) != key:
            raise sqlite3.DatabaseError("a passage is missing or has changed")
        return passage

    def _create_tables_if_empty(self) -> None:
        with self._transaction("BEGIN IMMEDIATE"):
            if self._connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                for statement in _TABLES.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _refuse_other_files(self) -> None:
        [application] = self._connection.execute("PRAGMA application_id").fetchone()
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise UsageError(f"{self._file}: not a file of recorded searches")
        if version != FORMAT:
            raise UsageError(f"{self._file}: recorded in format {version}, this version reads format {FORMAT}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let one thread in at a time, and turn SQLite's errors into the project's."""
        with self._lock:
            try:
                yield
            except UnicodeEncodeError as error:
                raise RetrievalError(f"a query or passage is not valid Unicode ({error.reason})") from None
            except (sqlite3.Error, struct.error) as error:
                raise _failure(self._file, error) from None

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        with self._connection:  # commits, or rolls back on an error
            yield


def _make_parent(file: Path) -> None:
    try:
        make_folder(file.parent)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{file}: {file.parent} is not a folder; choose another path") from None


def _failure(file: Path, error: sqlite3.Error | struct.error) -> ExSearchError:
    """Return the error to raise: SQLite's own message if the machine failed, otherwise that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the upper bits are details
    if code not in _NOT_DAMAGE or file.is_dir():
        return UsageError(f"{file}: not a file of recorded searches, or damaged; record it again")
    try:
        probe(file)
        with writing(file):  # SQLite does not say why the disk refused it
            raise error
    except OSError as denied:
        if trouble := machine_trouble(denied, file):
            return trouble
    except sqlite3.Error:
        pass
    return ExSearchError(f"{file}: {error}")


def _close(connection: sqlite3.Connection) -> None:
    """Leave one plain file that can be copied, unless another process has it open."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def _key(passage: Passage) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for field in (passage.id, passage.title, passage.text):
        encoded = field.encode()
        hashed.update(len(encoded).to_bytes(8, "little") + encoded)
    return hashed.digest()
