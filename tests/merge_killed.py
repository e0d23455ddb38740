"""Kills an addition that merges segments before each change it makes to the disk, and looks what is left each time.

    python merge_killed.py corpus|index FOLDER

Prints how often it was killed. Every time, what is there opens as it was before or as it is to be, and the same
addition, made again, ends in the same files as one that nobody killed.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exsearch.corpus.importing import extend_corpus
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index

ROWS = [Passage(f"p{row}", f"Lamp {row}", f"The lamp number {row} is green, seen {row} times.") for row in range(4)]
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


def run(action: Callable[[], Any], kill_before: int) -> bool:
    """Do it in a process that kills itself before this many changes of the disk; return whether it was killed."""
    process = os.fork()
    if process == 0:
        made = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal made
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event not in CHANGES and not writes:
                return
            made += 1
            if made == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
        if kill_before:
            sys.addaudithook(count)
        try:
            action()
        except BaseException as error:
            print(f"before change {kill_before}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    status = ended(process)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def ended(process: int, seconds: float = 60) -> int:
    """Wait for a process; return its status. One that takes too long is killed, and that is a failure."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    raise TimeoutError(f"a process took over {seconds} seconds")


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith("rejected"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def prepare(folder: Path) -> None:
    """Three additions of a row, each indexed, of which one was deleted since."""
    write_corpus(folder / "corpus", ROWS[:1])
    for row in range(1, 4):
        build_index(Corpus.open(folder / "corpus"), "bm25", folder / "index")
        if row < 3:
            add_passages(folder / "corpus", ROWS[row : row + 1])
    delete_passages(folder / "corpus", ["p1"])
    (folder / "more.jsonl").write_text(json.dumps({"id": "p3", "title": ROWS[3].title, "text": ROWS[3].text}) + "\n")


def grow_corpus(folder: Path) -> None:
    extend_corpus(folder / "corpus", folder / "more.jsonl")


def grow_index(folder: Path) -> None:
    build_index(Corpus.open(folder / "corpus"), "bm25", folder / "index")


def check_corpus(folder: Path, before: Path) -> None:
    assert list(Corpus.open(folder / "corpus")) in ([ROWS[0], ROWS[2]], [ROWS[0], ROWS[2], ROWS[3]])


def check_index(folder: Path, before: Path) -> None:
    old = read_index_info(folder / "index").passages == 3
    opened = open_index(folder / "index", (before if old else folder) / "corpus")
    expected = [f"p{row}" for row in (0, 2, 3)[: 2 if old else 3]]
    assert [hit.passage.id for hit in opened.search(["lamp"], 9)[0]] == expected


def main() -> None:
    what, root = sys.argv[1], Path(sys.argv[2])
    action, check = {"corpus": (grow_corpus, check_corpus), "index": (grow_index, check_index)}[what]
    prepare(before := root / "before")
    shutil.copytree(before, start := root / "start", copy_function=shutil.copy2)
    if what == "index":
        grow_corpus(start)
    shutil.copytree(start, whole := root / "whole")
    assert not run(lambda: action(whole), 0)
    expected = contents(whole)
    assert [path.name for path in (whole / what / "segments").iterdir()] == ["0-4"]
    kills = 0
    while True:
        shutil.rmtree(root / "killed", ignore_errors=True)
        shutil.copytree(start, killed := root / "killed")
        if not run(lambda folder=killed: action(folder), kills + 1):
            break
        kills += 1
        check(killed, before)
        assert not run(lambda folder=killed: action(folder), 0)
        check(killed, before)
        assert contents(killed) == expected, f"killed before change {kills}"
        assert {path.name for path in killed.iterdir()} == {"corpus", "index", "more.jsonl"}
    print(kills)


if __name__ == "__main__":
    main()
