"""An import that is killed with `kill -9` and started again ends exactly like one that was left alone."""

import csv
import gzip
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exsearch.core.errors import UsageError
from exsearch.corpus.importing import ImportedPassages, extend_corpus, import_corpus
from exsearch.corpus.store import Corpus

SEGMENT_ROWS = 256

# imports as the command does, but kills itself at the n-th call of a function, if told to
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from exsearch.corpus import importing, writer

verb, source, out, segment_rows, where, calls = sys.argv[1:]
owner, name = (writer.CorpusWriter, "append") if where == "append" else (importing, where)
original, left = getattr(owner, name), int(calls)

def counted(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(owner, name, counted)
if verb == "import":
    importing.import_corpus(source, Path(out), segment_rows=int(segment_rows))
else:
    importing.extend_corpus(Path(out), source, segment_rows=int(segment_rows))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def start(
    verb: str, source: Path, out: Path, segment_rows: int = SEGMENT_ROWS, where: str = "append", calls: int = 0
) -> "subprocess.Popen[str]":
    arguments = [verb, str(source), str(out), str(segment_rows), where, str(calls)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def killed(*arguments: object, **options: object) -> None:
    """Run an import that kills itself."""
    process = start(*arguments, **options)  # type: ignore[arg-type]
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def rows(count: int, first: int = 0) -> Iterator[tuple[str, str, str]]:
    """Rows of id, text, title: a twentieth has no text, and a twentieth an id that was there before."""
    words = random.Random(3)
    for number in range(first, first + count):
        id = number // 2 if number % 20 == 7 else number
        text = "" if number % 20 == 11 else " ".join(words.choices(("so", 'said "Ann"', "tab\tbed", "line\nend"), k=9))
        yield f"p{id}", text, f"Title {number}"


def write_source(path: Path, count: int, first: int = 0) -> Path:
    ids, texts, titles = zip(*rows(count, first), strict=True)
    if path.suffix == ".parquet":
        columns = {"id": ids, "text": texts, "title": titles}
        pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), path, row_group_size=300)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        if ".tsv" in path.suffixes:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(("id", "text", "title"))
            writer.writerows(zip(ids, texts, titles, strict=True))
        else:
            for id, text, title in zip(ids, texts, titles, strict=True):
                file.write(json.dumps({"id": id, "text": text, "title": title}) + "\n")
    return path


def assert_equal(one: Path, two: Path) -> None:
    """Two corpus folders with the same rows, in the same segments, and the same rows skipped."""
    first, second = Corpus.open(one), Corpus.open(two)
    assert first.fingerprint == second.fingerprint
    assert first.segments == second.segments
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, two)
    ]
    assert contents[0] == contents[1]


def without_path(result: ImportedPassages) -> ImportedPassages:
    return msgspec.structs.replace(result, rejected=None)


@pytest.mark.parametrize("name", ["p.tsv", "p.jsonl.gz", "p.parquet"])
def test_an_import_killed_twice_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    source = write_source(tmp_path / name, 2000)
    whole = import_corpus(source, tmp_path / "whole", segment_rows=SEGMENT_ROWS)
    assert (whole.malformed, whole.duplicates) == (100, 100)

    killed("import", source, tmp_path / "broken", where="append", calls=7)
    finished = tmp_path / ".broken.partial/segments/0-256/passages.arrow"
    written = finished.stat().st_mtime_ns
    killed("import", source, tmp_path / "broken", where="write_json", calls=2)
    assert not (tmp_path / "broken").exists()

    said: list[str] = []
    result = import_corpus(source, tmp_path / "broken", say=said.append, segment_rows=SEGMENT_ROWS)
    [line] = said
    assert line.startswith("resuming after ") and int(line.split()[2]) >= SEGMENT_ROWS
    assert (tmp_path / "broken/segments/0-256/passages.arrow").stat().st_mtime_ns == written, "it was written again"
    assert without_path(result) == without_path(whole)
    assert_equal(tmp_path / "broken", tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {name, "whole", "broken"}


def test_an_addition_that_was_killed_leaves_the_corpus_valid_and_continues(tmp_path: Path) -> None:
    first, second = write_source(tmp_path / "a.jsonl", 500), write_source(tmp_path / "b.tsv.gz", 1500, first=400)
    import_corpus(first, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    before = Corpus.open(tmp_path / "whole").fingerprint
    whole = extend_corpus(tmp_path / "whole", second, segment_rows=SEGMENT_ROWS)
    assert whole.duplicates > 100

    killed("add", second, tmp_path / "broken", where="append", calls=6)
    assert Corpus.open(tmp_path / "broken").fingerprint == before
    said: list[str] = []
    result = extend_corpus(tmp_path / "broken", second, say=said.append, segment_rows=SEGMENT_ROWS)
    assert said[0].startswith("resuming after ")
    assert without_path(result) == without_path(whole)
    assert_equal(tmp_path / "broken", tmp_path / "whole")


def test_a_source_that_has_changed_is_imported_from_the_start(tmp_path: Path) -> None:
    source = write_source(tmp_path / "p.jsonl", 1000)
    killed("import", source, tmp_path / "corpus", calls=5)
    write_source(source, 900)
    said: list[str] = []
    import_corpus(source, tmp_path / "corpus", say=said.append)
    assert "starting over" in said[0] and "another source" in said[0]
    import_corpus(source, tmp_path / "fresh")
    assert_equal(tmp_path / "corpus", tmp_path / "fresh")


def test_remains_that_are_damaged_are_not_continued(tmp_path: Path) -> None:
    source = write_source(tmp_path / "p.jsonl", 1000)
    fresh = import_corpus(source, tmp_path / "fresh")
    killed("import", source, tmp_path / "corpus", calls=5)
    remains = shutil.move(tmp_path / ".corpus.partial", tmp_path / "remains")
    for name in ("import.json", "rejected.jsonl", "segments/0-256/ids.hash.npy"):
        shutil.copytree(remains, tmp_path / ".corpus.partial")
        path = tmp_path / ".corpus.partial" / name
        path.write_bytes(path.read_bytes()[:20])
        said: list[str] = []
        result = import_corpus(source, tmp_path / "corpus", say=said.append)
        assert said[0].startswith("starting over")
        assert without_path(result) == without_path(fresh)
        assert_equal(tmp_path / "corpus", tmp_path / "fresh")


def test_a_strict_import_does_not_continue_a_lenient_one(tmp_path: Path) -> None:
    source = write_source(tmp_path / "p.jsonl", 1000)
    killed("import", source, tmp_path / "corpus", calls=5)
    with pytest.raises(UsageError, match="line 8: the id occurs twice"):
        import_corpus(source, tmp_path / "corpus", strict=True)
    assert {path.name for path in tmp_path.iterdir()} == {"p.jsonl"}


def generated(path: Path, count: int) -> Path:
    """A large file in DPR's format."""
    words = random.Random(5)
    vocabulary = ["".join(words.choices("abcdefghijklmno", k=6)) for _ in range(2000)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("id", "text", "title"))
        for number in range(count):
            writer.writerow((number - number % 1000 // 999, " ".join(words.choices(vocabulary, k=100)), f'"{number}"'))
    return path


@pytest.mark.slow
def test_an_import_of_200_000_passages_killed_four_times_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    source = generated(tmp_path / "p.tsv", 200_000)
    whole = import_corpus(source, tmp_path / "whole", segment_rows=16_384)
    assert (whole.passages, whole.duplicates) == (199_800, 200)

    moments = random.Random(7)
    segments = tmp_path / ".broken.partial/segments"
    for least in (1, 3, 6, 9):
        process = start("import", source, tmp_path / "broken", segment_rows=16_384)
        while len(list(segments.glob("[0-9]*"))) < least:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
    said: list[str] = []
    result = import_corpus(source, tmp_path / "broken", say=said.append, segment_rows=16_384)
    assert said[0].startswith("resuming after ")
    assert without_path(result) == without_path(whole)
    assert_equal(tmp_path / "broken", tmp_path / "whole")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_passages(tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 100_000):
        process = start("import", generated(tmp_path / "p.tsv", count), tmp_path / "corpus", segment_rows=8192)
        peaks.append(int(process.communicate()[0]))
    text = (100_000 - 20_000) * 700 / 1024
    assert peaks[1] - peaks[0] < text / 5, f"peaks of {peaks} KiB; the further passages alone are {text:.0f} KiB"
