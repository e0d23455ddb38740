"""`exsearch verify` names damaged files, and what to do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from exsearch.cli.verify import verify
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.world import World


@pytest.fixture
def work(tmp_path: Path) -> Path:
    corpus = write_corpus(tmp_path / "corpus", World(seed=1, passages=200).passages())
    build_index(corpus, "bm25", tmp_path / "index")
    return tmp_path


def run(*words: str | Path) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(verify, [str(word) for word in words])
    return done.stdout, done.exception


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_whole_folders_pass_with_their_size_and_speed(work: Path) -> None:
    said, error = run(work / "corpus", work / "index")
    assert error is None and said.count("\n") == 1
    assert " MB, as they were written (" in said
    assert run(work)[0].split(" files")[0] == said.split(" files")[0], "folders in folders are found"


def test_a_damaged_segment_is_named_and_is_built_again_alone_by_the_advice(work: Path) -> None:
    [segment] = (work / "index" / "segments").iterdir()
    before = open_index(work / "index").search(["lighthouse"], 3)
    flip(segment / "codes.npy", 200)
    said, error = run(work / "index")
    assert isinstance(error, ExSearchError) and not isinstance(error, UsageError)
    assert str(error) == "1 of 8 files are damaged"
    assert f"{segment / 'codes.npy'}: its content has changed; remove {segment} and build the index" in said
    for file in segment.iterdir():
        file.unlink()
    segment.rmdir()
    build_index(Corpus.open(work / "corpus"), "bm25", work / "index")
    assert open_index(work / "index").search(["lighthouse"], 3) == before
    assert run(work / "index")[1] is None


def test_damage_is_told_to_programs_as_json(work: Path) -> None:
    [passages] = (work / "corpus").rglob("passages.arrow")
    flip(passages, passages.stat().st_size // 2)
    told = json.loads(run(work / "corpus", "--json")[0])
    assert [fault["path"] for fault in told["faults"]] == [str(passages)]
    assert told["faults"][0]["remedy"] == "import the corpus again"


def test_what_has_no_checksums_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert "no file in it has a checksum" in str(run(tmp_path)[1])
    assert "no such file or folder" in str(run(tmp_path / "absent")[1])
