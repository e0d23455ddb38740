"""Record and replay: bit for bit, whoever recorded, and nothing that was not recorded."""

import multiprocessing
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import ExSearchError, UsageError
from exsearch.corpus.passage import Hit, Passage
from exsearch.retrieval.base import RetrievalError
from exsearch.retrieval.replay import Recorder, Replay

CORPUS = [Passage(str(number), f"Title {number}", f"Text {number}") for number in range(10)]


class Counting:
    """Gives CORPUS from a place that depends on the query; remembers what it was asked."""

    def __init__(self, fingerprint: str = "f" * 16, noise: float = 0.0) -> None:
        self.fingerprint = fingerprint
        self.noise = noise
        self.asked: list[str] = []

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.asked += queries
        return [
            [
                Hit(CORPUS[(len(query) + rank) % len(CORPUS)], 1 / (rank + 1) + self.noise, rank + 1)
                for rank in range(min(k, 10))
            ]
            for query in queries
        ]


class Scripted:
    """Gives what it was given."""

    fingerprint = "0123456789abcdef"

    def __init__(self, hits: dict[str, list[Hit]]) -> None:
        self.hits = hits

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        return [self.hits[query] for query in queries]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "searches.sqlite"


def record(file: Path, queries: list[str], k: int = 3, fingerprint: str = "f" * 16) -> list[list[Hit]]:
    return Recorder(Counting(fingerprint), file).search(queries, k)


def bits(hits: list[list[Hit]]) -> list[list[tuple[Passage, bytes, int]]]:
    return [[(hit.passage, struct.pack("<d", hit.score), hit.rank) for hit in row] for row in hits]


texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=30)  # each writes files
@given(
    st.dictionaries(
        texts,
        st.lists(st.tuples(st.builds(Passage, texts, texts, texts), st.floats(width=64)), max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 10**6),
)
def test_a_replay_equals_the_recording_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[tuple[Passage, float]]], k: int
) -> None:
    hits = {
        query: [Hit(passage, score, rank) for rank, (passage, score) in enumerate(row, start=1)]
        for query, row in found.items()
    }
    file = tmp_path_factory.mktemp("replay") / "searches.sqlite"
    recorded = Recorder(Scripted(hits), file).search(list(hits), k)
    assert bits(recorded) == bits(list(hits.values()))
    assert bits(Replay(file).search(list(hits), k)) == bits(recorded)


def test_what_is_recorded_is_not_searched_again(file: Path) -> None:
    retriever = Counting()
    first = Recorder(retriever, file).search(["a", "bb", "a"], 3)
    assert retriever.asked == ["a", "bb"]
    assert first[0] == first[2]
    again = Recorder(retriever, file).search(["ccc", "bb"], 3)
    assert retriever.asked == ["a", "bb", "ccc"]
    assert again[1] == first[1]


def test_another_k_or_index_is_another_search(file: Path) -> None:
    retriever, other = Counting(), Counting("e" * 16)
    assert [len(Recorder(retriever, file).search(["a"], k)[0]) for k in (2, 5)] == [2, 5]
    Recorder(other, file).search(["a"], 2)
    assert retriever.asked == ["a", "a"]
    assert other.asked == ["a"]


def test_the_first_recording_of_a_search_stays(file: Path) -> None:
    """Two recorders that search at the same time must both answer what a replay will answer."""
    slow = Counting(noise=0.5)

    class Overtaken(Counting):
        def search(self, queries: list[str], k: int) -> list[list[Hit]]:
            Recorder(slow, file).search(queries, k)
            return super().search(queries, k)

    answered = Recorder(Overtaken(), file).search(["a"], 3)
    assert [hit.score for hit in answered[0]] == [1.5, 1.0, 1 / 3 + 0.5]
    assert Replay(file).search(["a"], 3) == answered


def test_a_search_that_was_not_recorded_fails_and_says_which(file: Path) -> None:
    record(file, ["who?"])
    replay = Replay(file)
    with pytest.raises(RetrievalError, match=r"'where\?' with k = 3 was never searched in index ffffffffffffffff"):
        replay.search(["who?", "where?"], 3)
    with pytest.raises(RetrievalError, match="k = 4"):
        replay.search(["who?"], 4)
    with pytest.raises(RetrievalError, match=r"x{70,80}\.\.\.'"):
        replay.search(["x" * 10_000], 3)
    assert replay.search([], 3) == []


def test_a_failed_search_is_not_recorded(file: Path) -> None:
    class Failing(Counting):
        def search(self, queries: list[str], k: int) -> list[list[Hit]]:
            raise RetrievalError("down")

    with pytest.raises(RetrievalError, match="down"):
        Recorder(Failing(), file).search(["a"], 3)
    with pytest.raises(UsageError, match="contains no recorded search"):
        Replay(file)


def test_a_file_of_several_indexes_needs_one_named(file: Path) -> None:
    for fingerprint in ("a" * 16, "b" * 16):
        record(file, ["who?"], fingerprint=fingerprint)
    with pytest.raises(UsageError, match=f"several indexes, name one: {'a' * 16}, {'b' * 16}"):
        Replay(file)
    with pytest.raises(UsageError, match=f"no search of index {'c' * 16}"):
        Replay(file, "c" * 16)
    assert Replay(file, "b" * 16).fingerprint == "b" * 16


def test_bad_arguments_are_refused(file: Path) -> None:
    record(file, ["a"])
    for retriever in (Recorder(Counting(), file), Replay(file)):
        with pytest.raises(ValueError, match="at least 1"):
            retriever.search(["a"], 0)
        with pytest.raises(RetrievalError, match="not valid Unicode"):
            retriever.search(["\ud800"], 3)


def test_passages_are_stored_once(file: Path) -> None:
    record(file, ["a", "bb", "ccc"], k=10)
    [count] = sqlite3.connect(file).execute("SELECT count(*) FROM passages").fetchone()
    assert count == len(CORPUS)


def test_after_the_last_recorder_one_plain_file_is_left(file: Path) -> None:
    one, two = Recorder(Counting(), file), Recorder(Counting(), file)
    one.search(["a"], 3)
    del one
    two.search(["bb"], 3)
    del two
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    Replay(file).search(["a", "bb"], 3)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_can_be_replayed_while_it_is_recorded(file: Path) -> None:
    recorder = Recorder(Counting(), file)
    recorder.search(["a"], 3)
    replay = Replay(file)
    later = recorder.search(["bb"], 3)
    assert replay.search(["bb"], 3) == later


@pytest.mark.parametrize("content", [b"{}\n" * 2000, b"SQLite format 3\x00" + b"x" * 5000])
def test_another_file_is_refused_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"searches\.sqlite: not a file of recorded searches"):
        Replay(file)
    with pytest.raises(UsageError, match=r"searches\.sqlite: not a file of recorded searches"):
        Recorder(Counting(), file)
    assert file.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_alone(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = file.read_bytes()
    for open_it in (lambda: Replay(file), lambda: Recorder(Counting(), file)):
        with pytest.raises(UsageError, match="not a file of recorded searches"):
            open_it()
    assert file.read_bytes() == before


def test_missing_files_folders_and_other_formats_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Replay(file)
    with pytest.raises(UsageError, match="no such file"):
        Replay(tmp_path)
    with pytest.raises(UsageError, match="not a file of recorded searches"):
        Recorder(Counting(), tmp_path)
    record(file, ["a"])
    with pytest.raises(UsageError, match="is not a folder"):
        Recorder(Counting(), file / "inside")
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(UsageError, match="format 7, this version reads format 1"):
        Replay(file)


def test_a_damaged_file_is_reported_and_gives_no_other_passages(file: Path) -> None:
    recorded = record(file, [f"query {number}" for number in range(50)], k=10)
    expected = [[hit.passage for hit in hits] for hits in recorded]
    content = file.read_bytes()
    refused = 0
    for start in range(0, len(content), 512):
        file.write_bytes(content[:start] + b"\xff" * 256 + content[start + 256 :])
        try:
            answers = Replay(file).search([f"query {number}" for number in range(50)], 10)
        except ExSearchError:
            refused += 1
        else:
            assert [[hit.passage for hit in hits] for hits in answers] == expected
    assert refused > 10
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="damaged"):
        Replay(file).search(["query 1"], 10)


def _record_some(file: Path, writer: int) -> None:
    recorder = Recorder(Counting(noise=writer), file)
    for number in range(40):
        recorder.search([f"query {number}", f"query {number} of {writer}"], 5)


def test_several_processes_record_into_one_file(file: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_record_some, args=(file, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    replay = Replay(file)
    for number in range(40):
        shared, *own = replay.search([f"query {number}", *(f"query {number} of {writer}" for writer in range(4))], 5)
        winner = int(shared[0].score) - 1
        assert [hit.score for hit in shared] == [1 / (rank + 1) + winner for rank in range(5)]
        assert [hits[0].score for hits in own] == [1.0 + writer for writer in range(4)]


def test_what_was_recorded_before_a_kill_is_kept(file: Path) -> None:
    code = f"""
import os, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
from test_recorded_searches import Counting
from exsearch.retrieval.replay import Recorder
recorder = Recorder(Counting(), Path({str(file)!r}))
recorder.search(["a", "bb"], 3)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    answers = Replay(file).search(["a", "bb"], 3)
    assert answers == Counting().search(["a", "bb"], 3)
    record(file, ["ccc"])  # and folds the log in
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert len(Replay(file).search(["a", "ccc"], 3)) == 2
