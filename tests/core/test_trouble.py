"""What the machine fails with is named as that, with what to do: only damage is called damage."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from exsearch.core.atomic import children, is_file
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.journal import Journal
from exsearch.core.jsonl import write_jsonl
from exsearch.core.trouble import as_user_error, machine_trouble, opening, probe, writing
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.questions.question import Question, read_questions
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index

ADVICE = {
    errno.EACCES: "give this user access to it",
    errno.EMFILE: "raise the limit on open files of this process",
    errno.ENFILE: "raise this machine's limit",
    errno.ENOMEM: "free memory",
    errno.ENOSPC: "make room there",
    errno.EFBIG: "choose a drive that takes larger files",
    errno.EIO: "does not answer",
    errno.ESTALE: "does not answer",
    errno.ENOTCONN: "does not answer",
    errno.ETIMEDOUT: "does not answer",
    errno.EHOSTDOWN: "does not answer",
}
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and /proc")


def in_trouble(kind: str, folder: Path) -> dict[str, tuple[str, str]]:
    """What a user reads of each thing that is opened while the machine lacks something."""
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    here = Path(__file__).parents[1]
    command = [sys.executable, str(here / "in_trouble.py"), kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, tuple[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_linux
def test_too_many_open_files_are_named_by_whatever_is_opened(tmp_path: Path) -> None:
    found = in_trouble("files", tmp_path)
    assert {name.partition(",")[0] for name in found} >= {"corpus", "index", "vectors", "model", "journal", "run"}
    assert len([name for name in found if name.endswith(", 0")]) == 15
    for name, (_, message) in found.items():
        assert message.startswith(str(tmp_path)), name
        assert "Too many open files; raise the limit on open files of this process (ulimit -n)" in message, name


LAST_BYTES = """
import resource, sys
from pathlib import Path
import numpy as np
from exsearch.core.mapping import map_array, save_array

path = Path(sys.argv[1])
for array in (np.arange(300, dtype=np.uint32), np.arange(6000).reshape(3, -1).T, np.empty((0, 2))):
    save_array(path, array)
    np.save(path.with_name("numpy.npy"), np.ascontiguousarray(array))
    assert path.read_bytes() == path.with_name("numpy.npy").read_bytes()
    assert map_array(path).tolist() == array.tolist()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size - 1, hard))
    try:
        save_array(path, array)
    except OSError as error:
        print(error.strerror)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
"""


@needs_linux
def test_an_array_is_written_to_its_last_byte_or_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAST_BYTES, str(tmp_path / "array.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["File too large"] * 3


@needs_linux
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="FAISS is not installed")
def test_a_disk_that_is_full_but_for_the_last_byte_is_named_by_whatever_is_written(tmp_path: Path) -> None:
    """Some libraries say nothing where the last bytes of a file are lost, and call what they have written complete."""
    command = [sys.executable, str(Path(__file__).parents[1] / "disk_full.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, tuple[str, str, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    assert {name.partition(",")[0] for name in found} == {
        *("corpus", "growth", "bm25", "late", "graph", "lists", "encoder", "weights", "model", "journal", "questions")
    }
    for name, (_, message, left) in found.items():
        assert message.startswith(str(tmp_path)), name
        assert "File too large" in message, name
        # an index is continued, a journal too; nothing else is begun
        thing = name.partition(",")[0]
        assert set(left) <= {thing if thing in ("growth", "journal") else f".{thing}.partial"}, name


def test_an_error_of_a_library_is_its_own_where_the_disk_takes_more(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^odd$"), writing(tmp_path / "out"):
        raise ValueError("odd")
    with pytest.raises(OSError, match=r"^7 requested$") as caught, writing(tmp_path / "out"):
        raise OSError("7 requested")
    assert caught.value.errno is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_linux
def test_no_permission_is_named_by_whatever_is_opened(tmp_path: Path) -> None:
    found = in_trouble("permission", tmp_path)
    assert len(found) == 24
    for name, (_, message) in found.items():
        assert message.startswith(str(tmp_path)), name
        assert "Permission denied; give this user access to it" in message, name


@pytest.mark.slow
@needs_linux
def test_too_little_memory_for_a_mapped_file_is_named(tmp_path: Path) -> None:
    [(kind, message)] = in_trouble("memory", tmp_path).values()
    assert kind == "ExSearchError"
    assert message.endswith(
        "free memory, or use a machine with more; nothing is lost; run the same command again to resume"
    )
    assert "passages.arrow: Cannot allocate memory" in message


@needs_linux
def test_a_drive_that_fails_is_named_by_what_is_read_from_it(tmp_path: Path) -> None:
    """Nothing is mapped at the start of a process's memory: as a file, it fails like a bad disk where it is read."""
    write_corpus(tmp_path / "corpus", [Passage("p", "Lamp", "green")])
    build_index(Corpus.open(tmp_path / "corpus"), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "questions.jsonl", [Question("q", "What?", ["that"])])
    for path, opened in {
        tmp_path / "index/index.json": lambda: open_index(tmp_path / "index"),
        tmp_path / "corpus/corpus.json": lambda: Corpus.open(tmp_path / "corpus"),
        tmp_path / "questions.jsonl": lambda: read_questions(tmp_path / "questions.jsonl"),
    }.items():
        path.unlink()
        path.symlink_to("/proc/self/mem")
        with pytest.raises((OSError, ExSearchError)) as caught:
            opened()
        message = str(machine_trouble(caught.value) or caught.value)
        assert message.startswith(str(tmp_path))
        assert "Input/output error; the drive or network behind it does not answer" in message
        assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(("number", "advice"), ADVICE.items())
def test_each_failure_of_the_machine_has_its_own_advice_and_exit_code_1(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number), "some/file")
    trouble = machine_trouble(error)
    assert trouble is not None
    assert (type(trouble), trouble.exit_code) == (ExSearchError, 1)
    assert str(trouble).startswith(f"some/file: {os.strerror(number)}; ")
    assert advice in str(trouble)
    with (
        pytest.raises(ExSearchError, match=r"^some/file: ") as caught,
        opening(Path("some"), "corpus", "import it again", ValueError),
    ):
        raise error
    assert "damaged" not in str(caught.value) and "import" not in str(caught.value)


def test_what_a_library_has_wrapped_is_found(tmp_path: Path) -> None:
    def load() -> None:
        try:
            raise OSError(errno.EMFILE, "Too many open files", "weights")
        except OSError as error:
            raise ValueError("no such model") from error

    with pytest.raises(ExSearchError, match=r"^weights: Too many open files"), opening(tmp_path, "x", "y", ValueError):
        load()
    assert "not enough memory" in str(machine_trouble(MemoryError(), tmp_path))


def test_damage_and_what_is_missing_are_told_apart(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"damaged corpus \(odd\); import it again"),
        opening(tmp_path, "corpus", "import it again", ValueError),
    ):
        raise ValueError("odd")
    with (
        pytest.raises(UsageError, match=r"incomplete corpus, .*gone is missing; import it again"),
        opening(tmp_path, "corpus", "import it again"),
    ):
        (tmp_path / "gone").read_bytes()
    for library in (
        pa.ArrowInvalid("Expected to read metadata"),
        KeyError("x"),
        UnicodeDecodeError("utf-8", b"", 0, 1, ""),
    ):
        with (
            pytest.raises(UsageError, match=r"^some: damaged corpus; import it again$"),
            opening(Path("some"), "corpus", "import it again", ValueError, KeyError),
        ):
            raise library
    with pytest.raises(UsageError, match=r"^as it was$"), opening(tmp_path, "corpus", "import it again", ValueError):
        raise UsageError("as it was")
    for error in (ValueError("odd"), FileNotFoundError(errno.ENOENT, "none"), OSError("without a number")):
        assert machine_trouble(error) is None


def test_what_a_command_says_of_what_ends_it(tmp_path: Path) -> None:
    for path, error in {
        "such": FileNotFoundError(errno.ENOENT, "No such file or directory", "such"),
        "long": OSError(errno.ENAMETOOLONG, "File name too long", "long"),
    }.items():
        told = as_user_error(error)
        assert isinstance(told, UsageError)
        assert str(told) == f"{path}: {error.strerror}; choose another path"
    with pytest.raises(UnicodeEncodeError) as caught:
        os.fsdecode(b"of\xff").encode()
    told = as_user_error(caught.value)
    assert isinstance(told, UsageError)
    assert str(told) == "'of\\udcff': not UTF-8; rename the file, or use a link to it"
    with pytest.raises(UnicodeEncodeError) as caught:
        "\u03a9".encode("latin-1")
    for bug in (caught.value, ValueError("odd"), ConnectionResetError(errno.ECONNRESET, "reset")):
        assert as_user_error(bug) is None
    assert as_user_error(UsageError("as it was")) is not None


@needs_linux
def test_the_command_says_it_in_one_line_with_exit_code_1(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", [Passage("p", "Lamp", "green")])
    (tmp_path / "corpus/corpus.json").unlink()
    (tmp_path / "corpus/corpus.json").symlink_to("/proc/self/mem")
    command = [sys.executable, "-m", "exsearch.cli.main", "corpus", "info", str(tmp_path / "corpus")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and "Input/output error; the drive or network behind it does not answer" in line


def test_what_is_not_there_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    probe(tmp_path / "nothing")
    assert children(tmp_path / "nothing") == children(tmp_path / "nothing" / "deeper") == []
    with Journal(tmp_path / "journal"):
        pass
    assert children(tmp_path / "journal") == []
    assert is_file(tmp_path / "journal") and not is_file(tmp_path / "journal" / "x") and not is_file(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        read_questions(tmp_path / "nothing")
