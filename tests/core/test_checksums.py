"""Damage of files is found: by size and content, in lines, in JSON files and in arrays."""

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core import checksums
from exsearch.core.checksums import (
    CHECKSUMS,
    check_files,
    damage_in,
    load_checked,
    read_checked,
    save_checked,
    write_checked,
    write_checksums,
)
from exsearch.core.errors import UsageError
from exsearch.core.journal import Journal
from exsearch.core.jsonl import quarantine_damaged_lines, read_jsonl, seal, unseal, write_jsonl


class Record(msgspec.Struct, frozen=True):
    name: str
    number: int = 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "inner" / "b").write_bytes(b"content")
    write_checksums(tmp_path)
    return tmp_path


def test_whole_folders_pass_and_those_without_a_record_too(folder: Path) -> None:
    check_files(folder)
    assert list(damage_in(folder)) == []
    (folder / CHECKSUMS).unlink()
    (folder / "a").write_bytes(b"")
    check_files(folder)


def test_a_changed_a_shorter_and_a_missing_file_are_named(folder: Path) -> None:
    (folder / "a").write_bytes(bytes(999) + b"\x01")
    with pytest.raises(ValueError, match="a: its content has changed"):
        check_files(folder)
    (folder / "a").write_bytes(bytes(999))
    with pytest.raises(ValueError, match="a: 999 bytes, not 1000"):
        check_files(folder)
    (folder / "a").write_bytes(bytes(1000))
    (folder / "inner" / "b").unlink()
    with pytest.raises(FileNotFoundError):
        check_files(folder)
    assert list(damage_in(folder)) == ["inner/b: missing"]


def test_of_large_folders_only_sizes_are_compared_except_where_bounds_are_not_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "graph.faiss").write_bytes(bytes(500))
    write_checksums(folder)
    monkeypatch.setattr(checksums, "CHEAP", 100)
    monkeypatch.setattr(checksums, "SMALL", 10)
    (folder / "a").write_bytes(b"\x01" * 1000)
    check_files(folder)
    (folder / "graph.faiss").write_bytes(b"\x01" * 500)
    with pytest.raises(ValueError, match=r"graph\.faiss"):
        check_files(folder)


@given(st.text(), st.integers(-(2**40), 2**40), st.data())
def test_any_flipped_bit_of_a_sealed_line_is_found_or_changes_nothing(
    name: str, number: int, data: st.DataObject
) -> None:
    record = Record(name, number)
    line = seal(msgspec.json.encode(record))
    plain = unseal(line)
    assert plain is not None and msgspec.json.decode(plain, type=Record) == record
    at, bit = data.draw(st.integers(0, len(line) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(line)
    damaged[at] ^= 1 << bit
    content = unseal(bytes(damaged))
    if content is not None:
        with suppress(msgspec.DecodeError, ValueError):  # refused as no JSON
            assert msgspec.json.decode(content, type=Record) == record  # the checksum's own name was hit


def test_a_changed_line_is_refused_with_its_number_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Journal(path, sealed=True) as journal:
        journal.append([Record("first", 1), Record("second", 2)])
    assert [record.name for record in read_jsonl(path, Record)] == ["first", "second"]
    path.write_bytes(path.read_bytes().replace(b"second", b"sekond"))
    with pytest.raises(UsageError, match=r"records\.jsonl, line 2: damaged, its checksum is that of another content"):
        list(read_jsonl(path, Record))
    assert len(quarantine_damaged_lines(path, Record)) == 1
    assert [record.name for record in read_jsonl(path, Record)] == ["first"]
    assert b"sekond" in (tmp_path / "records.jsonl.damaged").read_bytes()


def test_lines_without_a_checksum_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_jsonl(path, [Record("a")])
    assert b"checksum" not in path.read_bytes() and list(read_jsonl(path, Record)) == [Record("a")]


def test_a_json_file_knows_its_own_content(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_checked(path, Record("a", 12))
    assert read_checked(path, Record) == Record("a", 12)
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(UsageError, match=r"record\.json: damaged"):
        read_checked(path, Record)
    path.write_text(json.dumps({"name": "b"}))  # of an earlier version
    assert read_checked(path, Record) == Record("b")


def test_an_array_knows_its_own_content_and_is_read_by_numpy(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.npy", np.arange(20)
    save_checked(path, rows)
    assert np.array_equal(load_checked(path), rows) and np.array_equal(np.load(path), rows)
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.npy: its content has changed"):
        load_checked(path)
