"""`exsearch corpus`: what its verbs print, and what they do with a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exsearch.cli.corpus import corpus as command
from exsearch.core.errors import UsageError
from exsearch.corpus.store import Corpus
from exsearch.world import World

ROWS = "".join(f'{{"id": "p{number}", "title": "T", "text": "text {number}"}}\n' for number in range(9))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    run("import", tmp_path / "rows.jsonl", "--out", tmp_path / "corpus")
    return tmp_path


def test_an_import_says_what_it_wrote_and_what_it_left_out(folder: Path) -> None:
    (folder / "bad.jsonl").write_text(ROWS + "no json\n" + ROWS)
    result = run("import", folder / "bad.jsonl", "--out", folder / "other", "--json")
    said = json.loads(result.stdout)
    opened = Corpus.open(folder / "other")
    assert said == {
        "corpus": str(folder / "other"),
        "passages": 9,
        "deleted": 0,
        "fingerprint": opened.fingerprint,
        "bytes": sum(path.stat().st_size for path in (folder / "other").rglob("*") if path.is_file()),
        "segments": 1,
        "added": 9,
        "long": 0,
        "malformed": 1,
        "duplicates": 9,
        "rejected": str(folder / "other/rejected.jsonl"),
    }
    assert "skipped: line 10: not valid JSON" in result.stderr
    assert "skipped: line 11: the id occurs twice" in result.stderr
    assert "... and 5 more" in result.stderr
    listed = folder / "other/rejected.jsonl"
    assert f"1 malformed and 9 duplicate rows were skipped, listed in {listed}" in result.stderr


def test_a_strict_import_ends_in_one_line_and_exit_code_2(folder: Path) -> None:
    (folder / "bad.jsonl").write_text(ROWS + '{"id": "p3", "text": "again"}\n')
    arguments = ["corpus", "import", str(folder / "bad.jsonl"), "--out", str(folder / "other"), "--strict"]
    done = subprocess.run([sys.executable, "-m", "exsearch.cli.main", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {folder / 'bad.jsonl'}, line 10: the id occurs twice, passage 4 of the corpus has it (id 'p3')\n"
    )
    assert not (folder / "other").exists()


def test_passages_are_added_deleted_and_counted(folder: Path) -> None:
    (folder / "more.jsonl").write_text('{"id": "q", "text": "more"}\n{"id": "p0", "text": "again"}\n')
    added = run("add", folder / "corpus", folder / "more.jsonl", "--json")
    assert [json.loads(added.stdout)[key] for key in ("passages", "added", "duplicates", "segments")] == [10, 1, 1, 2]

    (folder / "ids").write_text("p3\n\np4\n")
    deleted = run("delete", folder / "corpus", "q", "--from", folder / "ids", "--json")
    assert [json.loads(deleted.stdout)[key] for key in ("passages", "deleted")] == [7, 3]
    assert Corpus.open(folder / "corpus").by_id("p4") is None

    assert run("info", folder / "corpus", "--json").stdout == deleted.stdout
    assert "7 passages (3 deleted)" in run("info", folder / "corpus").stdout
    assert "2 segments" in run("info", folder / "corpus").stdout


def test_mistakes_are_named(folder: Path) -> None:
    (folder / "binary").write_bytes(b"p0\n\xff")
    (folder / "wide").write_text("p0", encoding="utf-16")
    for arguments, message in [
        (("info", folder), "not a corpus folder"),
        (("add", folder, folder / "rows.jsonl"), "not a corpus folder"),
        (("add", folder / "corpus", folder / "nothing"), "No such file"),
        (("add", folder / "corpus", folder / "rows.jsonl", "--strict"), "line 1: the id occurs twice"),
        (("delete", folder / "corpus", "p0", "p99"), "'p99'"),
        (("delete", folder / "corpus", "--from", folder / "nothing"), "no such file"),
        (("delete", folder / "corpus", "--from", folder / "binary"), "not UTF-8"),
        (("delete", folder / "corpus", "--from", folder / "wide"), "is written in UTF-16"),
    ]:
        with pytest.raises(UsageError, match=message):
            run(*arguments)
    assert "name the ids" in run("delete", folder / "corpus").stderr
    assert len(Corpus.open(folder / "corpus")) == 9


def test_a_world_is_written_as_corpus_and_questions(tmp_path: Path) -> None:
    arguments = ["world", "--passages", 200, "--seed", 1, "--train", 5, "--dev", 3, "--test", 2]
    said = json.loads(run(*arguments, "--out", tmp_path / "w", "--json").stdout)
    assert (said["corpus"], said["passages"]) == (str(tmp_path / "w" / "corpus"), 200)
    counts = {name: len((tmp_path / "w" / f"{name}.jsonl").read_text().splitlines()) for name in ("train", "dev")}
    assert counts == {"train": 5, "dev": 3}


def test_a_world_asks_about_the_chosen_relations_and_hops(tmp_path: Path) -> None:
    chosen = ("birthplace", "studied_at", "employer", "first_mayor", "uni_city", "company_city")
    options = ["--hops", 1, *(word for name in chosen for word in ("--relations", name))]
    sizes = ["--passages", 400, "--seed", 1, "--train", 5, "--dev", 2, "--test", 9999]
    result = run("world", "--out", tmp_path, *sizes, *options)
    questions = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    expected = World(seed=1, passages=400).questions("train", 5, hops=[1], relations=chosen)
    assert [question["text"] for question in questions] == [question.text for question in expected]
    assert len(questions) == 5
    assert "test: this world has only" in result.stderr


def test_an_unknown_relation_is_refused_with_the_nearest_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'birthplace'"):
        run("world", "--passages", 200, "--seed", 1, "--out", tmp_path / "w", "--relations", "birthplce")
    assert not (tmp_path / "w").exists()


def test_passages_longer_than_an_agent_reads_are_counted(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": "word " * number + "end"} for number in (5, 119, 120, 500)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[-1]]))
    result = run("import", tmp_path / "rows.jsonl", "--out", tmp_path / "corpus")
    assert "2 of 4 passages have more than 120 words: an agent reads the first 160 tokens" in result.stderr
