"""Importing passages: the shapes people have, what is skipped and why, and messages that name the line."""

import csv
import gzip
import json
import math
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.corpus import importing, lines
from exsearch.corpus.importing import ImportedPassages, extend_corpus, import_corpus
from exsearch.corpus.passage import Passage, split_contents
from exsearch.corpus.store import Corpus, delete_passages

Left = list[tuple[int, str, str | None]]


def write(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "input"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def imported(tmp_path: Path, content: str | bytes) -> list[Passage]:
    """The passages of a file that has nothing wrong."""
    result = import_corpus(write(tmp_path, content), tmp_path / "corpus", strict=True)
    passages = list(Corpus.open(tmp_path / "corpus"))
    assert (result.passages, result.rejected, result.first) == (len(passages), None, [])
    return passages


def skipped_rows(result: ImportedPassages) -> Left:
    """What rejected.jsonl says."""
    assert result.rejected is not None
    rows = [json.loads(line) for line in result.rejected.read_text().splitlines()]
    assert len(rows) == result.malformed + result.duplicates
    return [(row["line"], row["reason"], row["id"]) for row in rows]


def test_json_lines_with_title_and_text(tmp_path: Path) -> None:
    lines = (
        '\n{"id": "a", "title": "T", "text": "one", "extra": 1}\n\n{"id": 7, "text": "two"}\n{"id": 8.0, "text": "x"}'
    )
    assert imported(tmp_path, lines) == [Passage("a", "T", "one"), Passage("7", "", "two"), Passage("8", "", "x")]


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


DPR = 'id\ttext\ttitle\n1\t"say ""hi""\tnow"\tA\n2\tplain\t"two\nlines"\n3\tmore\tB\n'
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        DPR.encode(),
        gzip.compress(DPR.encode(), mtime=0),
        BOM + DPR.replace("\n", "\r\n", 1).encode(),
        b"\n" + DPR.encode(),
    ],
    ids=["plain", "gzip", "byte order mark", "blank line"],
)
def test_dpr_files_with_csv_quoting(tmp_path: Path, content: bytes) -> None:
    assert imported(tmp_path, content) == [
        Passage("1", "A", 'say "hi"\tnow'),
        Passage("2", "two\nlines", "plain"),
        Passage("3", "B", "more"),
    ]


def test_a_byte_order_mark_before_json_lines_is_no_content(tmp_path: Path) -> None:
    assert imported(tmp_path, gzip.compress(BOM + b'{"id": 1, "text": "x"}\r\n', mtime=0)) == [Passage("1", "", "x")]


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


lines_of_text = st.lists(printable, max_size=3).map("\n".join)


@settings(max_examples=20)
@given(st.lists(st.tuples(lines_of_text.filter(str.strip), lines_of_text), min_size=1, max_size=8))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "passages.tsv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(["id", "text", "title"])
            writer.writerows((number, text, title) for number, (text, title) in enumerate(rows))
        import_corpus(file, Path(folder) / "corpus", strict=True)
        assert [(passage.text, passage.title) for passage in Corpus.open(Path(folder) / "corpus")] == rows


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a", "b"], "title": ["T", None], "text": ["one", "two"], "extra": [1, 2]},
        {"id": ["a", "b"], "contents": ["T\none", "two"]},
        {"id": [b"a", b"b"], "text": [b"one", b"two"], "title": [b"T", b""]},
        {"id": pa.array(["a", "b"]).dictionary_encode(), "contents": pa.array(["T\none", "two"], pa.large_string())},
    ],
    ids=["title and text", "contents", "bytes", "other string types"],
)
def test_parquet(tmp_path: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    result = import_corpus(tmp_path / "p.parquet", tmp_path / "corpus", strict=True)
    assert result.passages == 2
    assert list(Corpus.open(tmp_path / "corpus")) == [Passage("a", "T", "one"), Passage("b", "", "two")]


def test_ids_that_a_table_made_floats_of_are_whole_numbers(tmp_path: Path) -> None:
    table = {"id": [1.0, math.nan, None, 2.5, 4.0, 5.0, 6.0], "text": ["a", "b", "c", "d", "e", "f", "g"]}
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    result = import_corpus(tmp_path / "p.parquet", tmp_path / "corpus")
    assert [passage.id for passage in Corpus.open(tmp_path / "corpus")] == ["1", "4", "5", "6"]
    needed = "its id is 2.5; it must be a string or a whole number"
    assert [reason for _, reason, _ in skipped_rows(result)] == ["no id", "no id", needed]


def test_parquet_rows_without_a_passage_are_left_out(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    texts = pa.concat_arrays([pa.array(["a", "b", " ", None, "e", "f"]), text, pa.array(["h", "i", "j"])])
    columns = {"id": [1, None, 3, 4, 1, 6, 7, 8, 9, 10], "text": texts}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet", row_group_size=3)
    result = import_corpus(tmp_path / "p.parquet", tmp_path / "corpus", segment_rows=1)
    assert [passage.id for passage in Corpus.open(tmp_path / "corpus")] == ["1", "6", "8", "9", "10"]
    assert skipped_rows(result) == [
        (2, "no id", None),
        (3, "no text", "3"),
        (4, "neither `text` nor `contents`", "4"),
        (5, "the id occurs twice, passage 1 of the corpus has it", "1"),
        (7, "not UTF-8 (byte 1)", None),
    ]


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("splits", [0, 1, 2])
def test_a_folder_saved_by_datasets(tmp_path: Path, splits: int) -> None:
    import datasets

    table = datasets.Dataset.from_dict({"id": [1, 2], "contents": ["T\none", "two"]})
    names = [f"part{number}" for number in range(splits)]
    saved = datasets.DatasetDict(dict.fromkeys(names, table)) if splits else table
    saved.save_to_disk(str(tmp_path / "saved"))
    folder = tmp_path / "saved"
    if splits == 2:
        with pytest.raises(UsageError, match=r"has the splits part0, part1; name one, such as .*saved/part0"):
            import_corpus(folder, tmp_path / "corpus")
        folder /= "part1"
    assert import_corpus(folder, tmp_path / "corpus", strict=True).passages == 2
    assert list(Corpus.open(tmp_path / "corpus")) == [Passage("1", "T", "one"), Passage("2", "", "two")]


def test_a_data_set_without_the_library_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'exsearch\[datasets\]'"):
        import_corpus("hf:owner/name", tmp_path / "corpus")


GOOD = "".join(f'{{"id": "g{number}", "text": "x"}}\n' for number in range(8))

JSON_ROWS = [
    ('{"id": "b", "text"', "it ends too early", None),
    ('{"id": "b", "text": 3}\n', "'text' must be a string or null, not 3", None),
    ('{"id": 1.5, "text": "x"}', "its id is 1.5; it must be a string or a whole number", None),
    ('{"id": "b", "title": NaN, "text": "x"}', r"not valid JSON \(NaN is not JSON; write null\)", None),
    ('["a"]', "must be an object, not a list", None),
    ('{"id":' * 100_000, "must be an object|nested too deeply", None),
    ('{"id": "a", "title": "x"}', "neither `text` nor `contents`", "a"),
    ('{"id": "a", "title": "x", "text": " \\n"}', "no text", "a"),
    ('{"text": "x"}', "no id", None),
    ('{"id": " ", "text": "x"}', "its id is empty", None),
    (b'{"id": "b", "text": "\xff"}', "not UTF-8", None),
    ('{"id": "b", "text": "\\ud800"}', "surrogate", None),
    ('{"id": "g3", "text": "again"}', "the id occurs twice, passage 4 of the corpus has it", "g3"),
]
DPR_ROWS = [
    ("4\tno title\n", "has 2 columns, not 3", None),
    ("4\ta\tb\tc\n", "has 4 columns, not 3", None),
    ("\ta\tb\n", "its id is empty", None),
    ("4\t\tb\n", "no text", "4"),
    ('4\t"a"b\tc\n', "there is text between a closing quote and the end of its cell", None),
    ('4\t"never closed\tc', "a quote opens a cell and is never closed", None),
    ('4\t"' + "x" * 131_073 + '"\tc\n', "a quoted cell is longer than 131072 characters", None),
    ('4\ta\rb\t"c"\n', "there is a carriage return in a cell without quotes", None),
    (b"4\t\xff\tc\n", "not UTF-8", None),
    ("1\tagain\tB\n", "the id occurs twice, passage 1 of the corpus has it", "1"),
]


@pytest.mark.parametrize(
    ("before", "row", "reason", "id"), [(GOOD, *row) for row in JSON_ROWS] + [(DPR, *row) for row in DPR_ROWS]
)
def test_a_row_that_is_no_passage_is_left_out_or_refused(
    tmp_path: Path, before: str, row: str | bytes, reason: str, id: str | None
) -> None:
    content = before.encode() + (row if isinstance(row, bytes) else row.encode())
    line = before.count("\n") + 1
    with pytest.raises(UsageError, match=rf"input, line {line}: .*({reason})"):
        imported(tmp_path, content)
    assert {path.name for path in tmp_path.iterdir()} == {"input"}

    result = import_corpus(tmp_path / "input", tmp_path / "corpus")
    assert [(line, id) for line, _, id in skipped_rows(result)] == [(line, id)]
    import_corpus(write(tmp_path, before), tmp_path / "good")
    assert list(Corpus.open(tmp_path / "corpus")) == list(Corpus.open(tmp_path / "good"))


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    content = DPR + '4\t"never closed\tc\n5\td\te\n6\t"quoted"\tf\n7\tg\th\n'
    result = import_corpus(write(tmp_path, content), tmp_path / "corpus")
    assert [(line, id) for line, _, id in skipped_rows(result)] == [(6, None)]
    assert [passage.id for passage in Corpus.open(tmp_path / "corpus")] == ["1", "2", "3", "5", "6", "7"]


STRAY = """id\ttext\ttitle
1\tThe weir of Tamm opened in 1911.\tTamm Weir
2\t"Reed song, part one, was sung in Velm.\tReed Song
3\tThe barge of Karn sank in 1950.\tKarn barge
4\tIts second part is called part two"\tReed Song 2
5\tThe kiln of Ostrel burnt down.\tOstrel kiln
6\tA sixth passage, on tea.\tTea
"""


def test_a_stray_quote_does_not_swallow_rows_but_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input, line 3: a quote opens a cell here .*written twice"):
        imported(tmp_path, STRAY)
    result = import_corpus(tmp_path / "input", tmp_path / "corpus")
    [(line, reason, _)] = skipped_rows(result)
    assert (line, reason.partition(",")[0]) == (3, "a quote opens a cell here that would end 2 lines further on")
    assert [passage.id for passage in Corpus.open(tmp_path / "corpus")] == ["1", "3", "4", "5", "6"]


def test_a_text_with_tabs_over_lines_is_no_row_though_it_has_as_many(tmp_path: Path) -> None:
    text = "so it is\tand\tso\nit was and\twill\tbe\nas it is\tnow\tand"
    with (tmp_path / "input").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("id", "title", "text"), ("a", "T", text), ("b", "U", "x")])
    assert imported(tmp_path, (tmp_path / "input").read_bytes()) == [Passage("a", "T", text), Passage("b", "U", "x")]


ROWS = [f"{number}\ttext of {number}\ttitle {number}" for number in range(8)]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, len(ROWS) - 1), st.integers(0, 20)), min_size=1, max_size=5))
def test_no_quote_anywhere_loses_a_row_without_a_word(quotes: list[tuple[int, int]]) -> None:
    rows = list(ROWS)
    for row, place in quotes:
        rows[row] = rows[row][:place] + '"' + rows[row][place:]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "passages.tsv"
        file.write_text("id\ttext\ttitle\n" + "\n".join([*rows, *(f"x{n}\tx\tx" for n in range(8))]))
        result = import_corpus(file, Path(folder) / "corpus")
    assert result.passages + result.malformed == 16


def test_rows_left_out_are_listed_in_order_and_the_first_shown(tmp_path: Path) -> None:
    content = GOOD + "".join(f'{{"id": "g{number}", "text": "again"}}\nno json\n' for number in range(4))
    result = import_corpus(write(tmp_path, content), tmp_path / "corpus", segment_rows=3)
    assert (result.passages, result.malformed, result.duplicates) == (8, 4, 4)
    assert [line for line, _, _ in skipped_rows(result)] == list(range(9, 17))
    assert len(result.first) == importing.MAX_EXAMPLES_SHOWN
    assert result.first[0] == "line 9: the id occurs twice, passage 1 of the corpus has it (id 'g0')"
    assert result.rejected == tmp_path / "corpus/rejected.jsonl"


def test_strict_refuses_the_first_of_several(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 9: the id occurs twice"):
        imported(tmp_path, GOOD + '{"id": "g3", "text": "again"}\nno json\n')


PACKED = gzip.compress(DPR.encode(), mtime=0)
REFUSED = [
    ("1\ttext\ttitle\n", "input: unknown format"),
    ('[{"id": 1, "text": "x"}]', "input: unknown format"),
    ("id\ttext\ttitle\r1\tx\ty\r", "input: its lines end in carriage returns only; save it with line feeds"),
    *((DPR.encode(name), "input: is written in UTF-16; save it as UTF-8") for name in ("utf-16", "utf-16-le")),
    (GOOD.encode("utf-16"), "input: is written in UTF-16; save it as UTF-8"),
    (gzip.compress(GOOD.encode("utf-16-be"), mtime=0), "input: is written in UTF-16; save it as UTF-8"),
    (b"\x28\xb5\x2f\xfd\x04", "input: is packed by Zstandard; unpack it first"),
    ("", "input: is empty"),
    ("\n\n", "input: is empty"),
    ("id\ttext\ttitle\n", "input: has no passages"),
    (gzip.compress(b"", mtime=0), "input: is empty"),
    (PACKED[:-12], r"broken gzip file after line \d+"),
    (
        gzip.compress(DPR.encode(), mtime=0)[:25] + b"\0\0\0\0" + gzip.compress(DPR.encode(), mtime=0)[29:],
        "broken gzip file after line 0",
    ),
    (gzip.compress(GOOD.encode() * 5000, 9, mtime=0)[:-400], r"broken gzip file after line \d+"),
    (b"\x1f\x8b none", "broken gzip file after line 0"),
    ('{"id": 1, "text": "x"}\n' + "not json\n" * 3, r"input, line 2: .*; 3 of 4 rows are malformed"),
    (
        '{"id":"1","title":NaN,"text":"x"}\n' * 2 + GOOD[:25],
        r"input, line 1: not valid JSON \(NaN is not JSON; write null\)",
    ),
    ('{"question": "Who?"}\n' * 5000, r"input, line 1: no id; \d+ of \d+ rows are malformed"),
    (b"PAR1 but nothing more", "input: broken Parquet file"),
    ('{"id": "' + "x" * 5000 + '", "text": "y"}', "input, line 1: is longer than"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_no_corpus_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes, message: str
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 4096)
    for strict in (False, True):
        with pytest.raises(UsageError, match=message if not strict else "input"):
            import_corpus(write(tmp_path, content), tmp_path / "corpus", strict)
        assert {path.name for path in tmp_path.iterdir()} == {"input"}


def test_a_parquet_file_that_is_torn_or_has_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "question": ["Who?"]}), tmp_path / "p.parquet")
    with pytest.raises(UsageError, match="has columns id, question; needs id, text"):
        import_corpus(tmp_path / "p.parquet", tmp_path / "corpus")
    pq.write_table(pa.table({"id": range(5000), "text": [f"text {n}" for n in range(5000)]}), tmp_path / "q.parquet")
    content = (tmp_path / "q.parquet").read_bytes()
    (tmp_path / "torn").write_bytes(content[:-100])
    (tmp_path / "holed").write_bytes(content[:20] + bytes(30_000) + content[30_020:])
    for name, thing in (("torn", "Parquet file"), ("holed", "table")):
        with pytest.raises(UsageError, match=f"{name}: broken {thing}; write or download it again$"):
            import_corpus(tmp_path / name, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_path_that_is_no_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        import_corpus(tmp_path / "nothing.tsv", tmp_path / "corpus")
    with pytest.raises(UsageError, match="is a folder, but was not written"):
        import_corpus(tmp_path, tmp_path / "corpus")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a regular file"):
        import_corpus(tmp_path / "pipe", tmp_path / "corpus")


def test_an_addition_skips_what_is_there_and_equals_one_import(tmp_path: Path) -> None:
    lines = [f'{{"id": "p{number}", "text": "text {number}"}}\n' for number in range(10)]
    whole = write(tmp_path, "".join(lines))
    import_corpus(whole, tmp_path / "whole", segment_rows=3)
    (tmp_path / "first").write_text("".join(lines[:4]))
    import_corpus(tmp_path / "first", tmp_path / "corpus")
    before = Corpus.open(tmp_path / "corpus")

    result = extend_corpus(tmp_path / "corpus", whole, segment_rows=4)
    corpus = Corpus.open(tmp_path / "corpus")
    assert (result.passages, result.duplicates, result.malformed) == (6, 4, 0)
    assert corpus.fingerprint == Corpus.open(tmp_path / "whole").fingerprint
    assert corpus.prefix(4) == before.fingerprint
    assert result.rejected == tmp_path / "corpus/rejected-4.jsonl"
    assert skipped_rows(result)[0] == (1, "the id occurs twice, passage 1 of the corpus has it", "p0")
    assert [segment.rows for segment in corpus.segments] == [4, 4, 2]

    said: list[str] = []
    assert extend_corpus(tmp_path / "corpus", whole, say=said.append) == result
    assert said == [f"{whole} was added already; nothing has changed since"]
    delete_passages(tmp_path / "corpus", ["p9"])
    again = extend_corpus(tmp_path / "corpus", whole)
    assert (again.passages, again.duplicates) == (1, 9)
    delete_passages(tmp_path / "corpus", ["p0"])
    assert extend_corpus(tmp_path / "corpus", whole).passages == 1


def test_a_refused_addition_leaves_the_corpus_as_it_was(tmp_path: Path) -> None:
    import_corpus(write(tmp_path, GOOD), tmp_path / "corpus")
    before = {path: path.read_bytes() for path in (tmp_path / "corpus").rglob("*") if path.is_file()}
    file = write(tmp_path, '{"id": 1, "text": "x"}\n{"id": 2, "text": "x"}\nno json\n')
    with pytest.raises(UsageError, match="line 3"):
        extend_corpus(tmp_path / "corpus", file, strict=True, segment_rows=1)
    assert {path: path.read_bytes() for path in (tmp_path / "corpus").rglob("*") if path.is_file()} == before


def test_an_import_replaces_a_corpus_only_when_it_is_whole(tmp_path: Path) -> None:
    import_corpus(write(tmp_path, GOOD), tmp_path / "corpus")
    with pytest.raises(UsageError):
        import_corpus(write(tmp_path, DPR + "4\n"), tmp_path / "corpus", strict=True)
    assert len(Corpus.open(tmp_path / "corpus")) == 8
    import_corpus(write(tmp_path, DPR), tmp_path / "corpus")
    assert len(Corpus.open(tmp_path / "corpus")) == 3
