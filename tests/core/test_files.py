"""Files that are never half-written: atomic files and folders, typed JSON lines, journals."""

import codecs
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core import atomic
from exsearch.core.atomic import atomic_path, remove, write_text
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.journal import Journal
from exsearch.core.jsonl import read_growing, read_json, read_jsonl, write_json, write_jsonl
from exsearch.core.scratch import remove_abandoned


class Record(msgspec.Struct, frozen=True):
    name: str
    number: int = 0


records = st.lists(st.builds(Record, st.text(), st.integers(-(2**63), 2**63 - 1)), max_size=6)
trees = st.dictionaries(st.sampled_from(["a", "b"]), st.binary(max_size=8), max_size=2)


def put(path: Path, content: bytes | dict[str, bytes]) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.mkdir()
        for name, data in content.items():
            (path / name).write_bytes(data)


def get(path: Path) -> bytes | dict[str, bytes] | None:
    if path.is_dir():
        return {child.name: child.read_bytes() for child in path.iterdir()}
    return path.read_bytes() if path.exists() else None


contents = st.one_of(st.binary(max_size=20), trees)


@given(st.none() | contents, contents, st.none() | contents, st.booleans())
def test_a_target_is_replaced_as_a_whole_or_not_at_all(
    old: bytes | dict[str, bytes] | None,
    new: bytes | dict[str, bytes],
    leftover: bytes | dict[str, bytes] | None,
    fails: bool,
) -> None:
    with TemporaryDirectory() as name:
        target = Path(name) / "deep" / "target"
        target.parent.mkdir()
        if old is not None:
            put(target, old)
        if leftover is not None:
            put(target.with_name(".target.partial"), leftover)
        in_the_way = old is not None and isinstance(old, bytes) != isinstance(new, bytes)
        try:
            with atomic_path(target) as temporary:
                put(temporary, new)
                assert get(target) == old, "nothing is seen before the end"
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert fails
        except UsageError as error:
            assert in_the_way and "is in the way" in str(error)
        assert get(target) == (old if fails or in_the_way else new)
        assert [path.name for path in target.parent.iterdir()] == (["target"] if target.exists() else [])


def test_removing_a_link_to_a_folder_keeps_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "folder", {"a": b"x"})
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert not (tmp_path / "link").exists()
    assert get(tmp_path / "folder") == {"a": b"x"}
    remove(tmp_path / "never was")


@given(records)
def test_records_survive_a_file(made: list[Record]) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "records.jsonl"
        assert write_jsonl(path, made) == len(made)
        assert list(read_jsonl(path, Record)) == made
        assert path.read_bytes().count(b"\n") == len(made)


def test_text_and_json_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Čapek\n")
    assert (tmp_path / "a.txt").read_bytes() == "Čapek\n".encode()
    write_json(tmp_path / "a.json", Record("Čapek", 1))
    assert read_json(tmp_path / "a.json", Record) == Record("Čapek", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"name":"x"}\n{"name":1}\n', "records.jsonl, line 2: .*name"),
        (b'{"name":"x"}\n\n{"name":"y"\n', "records.jsonl, line 3: "),
        (b'{"number":1}\n', "line 1: 'name' is missing"),
        (b'{"name":"\xff"}\n', r"line 1: not UTF-8 \(byte 10\)"),
        (None, "records.jsonl: no such file"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "records.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        list(read_jsonl(path, Record))


def test_a_file_that_still_grows_may_be_absent_or_torn_at_its_end_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "growing.jsonl"
    assert list(read_growing(path, Record)) == []
    path.write_bytes(b'{"name":"a"}\n{"na')
    assert list(read_growing(path, Record)) == [Record("a")]
    with pytest.raises(UsageError, match="line 2: not valid JSON"):
        list(read_jsonl(path, Record))
    path.write_bytes(b'{"na\n{"name":"b"}\n')
    with pytest.raises(UsageError, match="line 1: not valid JSON"):
        list(read_growing(path, Record))


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"name":1}', None])
def test_a_malformed_json_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.json: "):
        read_json(tmp_path / "a.json", Record)


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "inside"):
        with pytest.raises(UsageError, match="no such file"):
            list(read_jsonl(path, Record))
        with pytest.raises(UsageError, match="no such file"):
            read_json(path, Record)
    with pytest.raises(UsageError, match="a folder is in the way"):
        Journal(tmp_path)


@given(records.filter(bool), records, st.integers(0, 10_000))
def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(
    first: list[Record], second: list[Record], position: int
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "deep" / "journal.jsonl"
        with Journal(path) as journal:
            journal.append(first)
        content = path.read_bytes()
        cut = position % (len(content) + 1)
        path.write_bytes(content[:cut])
        with Journal(path) as journal:
            kept = list(journal.read(Record))
            assert kept == first[: content[:cut].count(b"\n")]
            journal.append(second)
            assert list(journal.read(Record)) == kept + second, "what is appended is on the disk at once"


def test_opening_a_journal_does_not_touch_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"name":"a"}\n{ odd but whole }\n')
    with Journal(path):
        pass
    assert path.read_bytes() == b'{"name":"a"}\n{ odd but whole }\n'


@given(st.dictionaries(st.text(max_size=3), st.integers(-5, 5), max_size=4))
def test_a_fingerprint_depends_on_content_and_not_on_order(value: dict[str, int]) -> None:
    backwards = dict(reversed(value.items()))
    assert fingerprint(value) == fingerprint(backwards)
    assert len(fingerprint(value)) == 16
    assert fingerprint(value) != fingerprint({**value, "one more key": 0})


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def killed(path: Path) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(atomic, "remove", killed)
        atomic.replace_atomically(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    with atomic.atomic_path(tmp_path / "old") as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_what_is_neither_file_nor_folder_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UsageError, match="is a folder"):
        write_text(Path(), "x")


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").read_text() == text


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path: Path) -> None:
    (tmp_path / "marked.jsonl").write_bytes(codecs.BOM_UTF8 + b'{"name": "a"}\n{"name": "b"}\n')
    assert list(read_jsonl(tmp_path / "marked.jsonl", Record)) == [Record("a"), Record("b")]


@pytest.mark.parametrize("content", [b"x", {"a": b"x"}])
def test_two_writers_of_one_target_do_not_meet(tmp_path: Path, content: bytes | dict[str, bytes]) -> None:
    target = tmp_path / "target"
    put(target, b"old" if isinstance(content, bytes) else {"old": b"old"})
    with atomic_path(target) as slow:
        put(slow, content)
        with atomic_path(target) as fast:
            put(fast, b"fast" if isinstance(content, bytes) else {"fast": b"fast"})
        assert get(target) == (b"fast" if isinstance(content, bytes) else {"fast": b"fast"})
        assert get(slow) == content, "who comes later removes nothing of who is not done"
    assert get(target) == content, "the last to end wins"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("folder", [False, True])
def test_many_writers_at_once_leave_what_one_of_them_wrote(tmp_path: Path, folder: bool) -> None:
    target = tmp_path / "target"
    written = [{"a": bytes([number]) * 9} if folder else bytes([number]) * 9 for number in range(60)]

    def write(content: bytes | dict[str, bytes]) -> None:
        with atomic_path(target) as temporary:
            put(temporary, content)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(write, written))
    assert get(target) in written
    assert list(tmp_path.iterdir()) == [target]


WRITER = """
import sys, time
from pathlib import Path
from exsearch.core.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text(sys.argv[2])
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[Path, str], "subprocess.Popen[str]"]]:
    """Starts a process that writes a text to a file once its standard input ends, and has begun."""
    processes = []

    def begin(target: Path, text: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WRITER, str(target), text]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by", ["the next writer", "whoever resumes the folder"])
def test_what_a_killed_writer_left_is_removed_and_nothing_of_one_that_lives(
    begin: Callable[[Path, str], "subprocess.Popen[str]"], tmp_path: Path, by: str
) -> None:
    target = tmp_path / "inner" / "target"
    living, killed = begin(target, "living"), begin(target, "killed")
    killed.kill()
    killed.wait()
    assert len(list(target.parent.glob(".target.*.partial"))) == 2
    if by == "the next writer":
        write_text(target, "next")
        assert target.read_text() == "next"
    else:
        remove_abandoned(tmp_path)
    assert len(list(target.parent.glob(".target.*.partial"))) == 1
    living.communicate("")
    assert living.returncode == 0
    assert target.read_text() == "living" and list(target.parent.iterdir()) == [target]


def test_a_file_is_written_where_it_may_be_but_not_listed(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    tmp_path.chmod(0o300)
    write_text(tmp_path / "a", "x")
    tmp_path.chmod(0o700)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
