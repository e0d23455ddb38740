"""Importing passages: the shapes people have, and messages that name the line."""

import csv
import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.cli.corpus import corpus as corpus_command
from exsearch.corpus.importing import import_corpus, split_contents
from exsearch.corpus.passage import Passage
from exsearch.errors import UsageError


def imported(tmp_path: Path, content: str | bytes) -> list[Passage]:
    file = tmp_path / "input"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(import_corpus(file, tmp_path / "corpus"))


def test_json_lines_with_title_and_text(tmp_path: Path) -> None:
    lines = '\n{"id": "a", "title": "T", "text": "one", "extra": 1}\n\n{"id": 7, "text": "two"}\n'
    assert imported(tmp_path, lines) == [Passage("a", "T", "one"), Passage("7", "", "two")]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ('"Title"\ntext\nmore', ("Title", "text\nmore")),
        ("Title\ntext", ("Title", "text")),
        ('"\ntext', ('"', "text")),
        ("no title at all", ("", "no title at all")),
    ],
)
def test_contents_hold_the_title_in_their_first_line(tmp_path: Path, contents: str, expected: tuple[str, str]) -> None:
    assert split_contents(contents) == expected
    [passage] = imported(tmp_path, json.dumps({"id": "1", "contents": contents}))
    assert passage == Passage("1", *expected)


DPR = 'id\ttext\ttitle\n1\t"say ""hi""\tnow"\tA\n2\tplain\t"two\nlines"\n'


@pytest.mark.parametrize(
    "content",
    [DPR.encode(), gzip.compress(DPR.encode()), b"\xef\xbb\xbf" + DPR.replace("\n", "\r\n", 1).encode()],
    ids=["plain", "gzip", "byte order mark"],
)
def test_dpr_files_with_csv_quoting(tmp_path: Path, content: bytes) -> None:
    assert imported(tmp_path, content) == [
        Passage("1", "A", 'say "hi"\tnow'),
        Passage("2", "two\nlines", "plain"),
    ]


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=8))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "passages.tsv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(["id", "text", "title"])
            writer.writerows((number, text, title) for number, (text, title) in enumerate(rows))
        corpus = import_corpus(file, Path(folder) / "corpus")
        assert [(passage.text, passage.title) for passage in corpus] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "b", "text"', "line 2: "),
        ('{"id": "a", "text": "x"}\n\n{"id": "b", "text": 3}', r"line 3: .*\$\.text"),
        ('{"id": "a", "title": "x"}', "line 1: neither `text` nor `contents`"),
        ('{"text": "x"}', "line 1: .*`id`"),
        (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "\xff"}', "line 2: "),
        (DPR + "3\tno title\n", "line 5: not as many columns"),
        (DPR + "3\ta\tb\tc\n", "line 5: not as many columns"),
        (DPR + '3\t"a"b\tc\n', "line 5: "),
        (DPR + '3\t"never closed\tc\n4\td\te\n', "line 5: "),
        (DPR.encode() + b"3\t\xff\tc\n", "line 5: not UTF-8"),
        ("1\ttext\ttitle\n", "unknown format"),
        ("", "is empty"),
        ("id\ttext\ttitle\n", "no passages"),
        (gzip.compress(DPR.encode())[:-12], "broken gzip file"),
        (DPR + "1\tagain\tB\n", "'1' occurs twice"),
    ],
)
def test_bad_input_is_reported_with_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        imported(tmp_path, content)
    assert not (tmp_path / "corpus").exists()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        import_corpus(tmp_path / "nothing.tsv", tmp_path / "corpus")


def test_the_command_prints_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(DPR)
    arguments = ["import", str(tmp_path / "p.tsv"), "--out", str(tmp_path / "corpus"), "--json"]
    result = CliRunner().invoke(corpus_command, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["passages"] == 2


def test_a_world_is_written_as_corpus_and_questions(tmp_path: Path) -> None:
    world = pytest.importorskip("exsearch.data.world")
    if not hasattr(world, "World"):
        pytest.skip("the world generator is not there yet")
    arguments = ["world", "--passages", "200", "--seed", "1", "--train", "5", "--dev", "3", "--test", "2"]
    result = CliRunner().invoke(
        corpus_command, [*arguments, "--out", str(tmp_path / "w"), "--json"], catch_exceptions=False
    )
    assert json.loads(result.stdout)["corpus"] == str(tmp_path / "w" / "corpus")
    counts = {name: len((tmp_path / "w" / f"{name}.jsonl").read_text().splitlines()) for name in ("train", "dev")}
    assert counts == {"train": 5, "dev": 3}
