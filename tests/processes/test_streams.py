"""What is printed, in whatever encoding the terminal or the pipe has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.processes.streams import write_any_text
from exsearch.retrieval.index.build import build_index

TITLE, TEXT = "Z\u00fcrich", "\u03a9 and \U0001f98b are words; \u00e9, too."


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    return build_index(write_corpus(folder / "corpus", [Passage("1", TITLE, TEXT)]), "bm25", folder / "index")


def run(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "exsearch.cli.main", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_search_is_printed_in_any_encoding(index: Path, encoding: str) -> None:
    done = run("search", str(index), TITLE, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert TITLE in shown
    assert (TEXT if encoding == "utf-8" else " and \\ud83e\\udd8b are words; \u00e9, too.") in shown


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_is_printed_as_json_is_json_in_any_encoding(index: Path, encoding: str) -> None:
    done = run("search", str(index), TITLE, "--json", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    # click writes UTF-8 where it is told ASCII
    [hit] = json.loads(done.stdout.decode("utf-8" if encoding == "ascii" else encoding))
    assert hit["passage"] == {"id": "1", "title": TITLE, "text": TEXT}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_name_that_is_no_text_is_reported_too(encoding: str) -> None:
    done = run("search", b"/no/such/caf\xe9", "\u03a9", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: /no/such/caf")
    assert done.stderr.count(b"\n") == 1


@given(st.text(st.characters(codec=None)), st.sampled_from(["latin-1", "ascii", "utf-8", "cp1251"]))
def test_any_text_in_json_comes_back_from_any_encoding(text: str, encoding: str) -> None:
    write_any_text()
    printed = json.dumps(text, ensure_ascii=False).encode(encoding, "exsearch.escaped")
    assert json.loads(printed.decode(encoding)) == text


def test_a_stream_that_knows_what_to_do_is_left_alone() -> None:
    code = (
        "import sys; from exsearch.processes.streams import write_any_text; write_any_text(); print(sys.stdout.errors)"
    )
    for handler, kept in (("replace", "replace"), ("strict", "exsearch.escaped")):
        environment = {**os.environ, "PYTHONIOENCODING": f"latin-1:{handler}"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == kept
