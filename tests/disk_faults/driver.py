"""Stops a verb at each change that it makes to the disk, and runs it again.

    LD_PRELOAD=shim.so python driver.py INPUTS FOLDER VERB kill|tear|fill EVERY

`kill` ends it before a change, `tear` after half of it, `fill` leaves no room from there on; every EVERY-th change is
tried. Prints JSON: the number of changes, those tried, and what was wrong. The same command, run again, must leave what
it leaves undisturbed, and nothing beside it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
from pathlib import Path

import exsearch
from exsearch.cli.main import main as run_verb
from exsearch.core.atomic import remove
from verbs import begin, commands, contents

IMPORTED = ["pyarrow.dataset", "transformers", "sentence_transformers", "faiss"]
"""Slow to import, so imported once, like all of exsearch; none starts a thread, which a fork would not survive."""
MODES = {"count": 0, "kill": 1, "tear": 2, "fill": 3}
SECONDS = 120
"""Maximum time of a run."""
faults = ctypes.CDLL(None)


def run(words: list[str], watched: Path, mode: str, at: int, said: Path) -> int:
    """Run the command in a fork, stopped at change `at`; return its exit code, which is negative for a signal."""
    child = os.fork()
    if not child:
        output = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["XDG_CACHE_HOME"] = str(said.parent / "cache")
        sys.argv = ["exsearch", *words]
        faults.faults_begin(f"{watched}/".encode(), MODES[mode], ctypes.c_long(at))
        run_verb()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise SystemExit(f"a run took over {SECONDS} seconds: {words}, {mode} {at}")


def main(data: Path, folder: Path, verb: str, mode: str, every: int) -> None:
    """Try all of a mode."""
    ours = [
        module.name for module in pkgutil.walk_packages(exsearch.__path__, "exsearch.") if "__main__" not in module.name
    ]
    for module in IMPORTED + ours:
        with contextlib.suppress(ImportError):  # of what an extra would bring
            importlib.import_module(module)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")} - {"python3"}
    assert threads <= {Path(sys.executable).name, "jemalloc_bg_thd"}, threads  # the allocator's survives a fork
    watched, said = folder / "watched", folder / "said"
    out = watched / "out"
    words = [str(word) for word in commands(data, out)[verb]]

    def begun() -> None:
        remove(watched)
        watched.mkdir()
        begin(verb, out)

    begun()
    assert run(words, watched, "count", 0, said) == 0, said.read_text()
    expected, left, wrong, tried = contents(out), names_in(watched), [], 0
    changes, at = faults.faults_count(), 1
    while True:
        begun()
        code = run(words, watched, mode, at, said)
        reached = faults.faults_count() >= at
        if not reached:
            assert code == 0, said.read_text()
            break
        tried += 1
        wrong += [f"{mode} {at}: {fault}" for fault in faults_of(mode, code, said.read_text())]
        again = run(words, watched, "count", 0, said)
        text = said.read_text()
        if again and not (again == 2 and verb in ("corpus add", "corpus delete")):
            wrong.append(f"{mode} {at}: again: exit code {again}: {text[-300:]}")
        elif (found := contents(out)) != expected:
            names = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
            wrong.append(f"{mode} {at}: again: differs in {sorted(names)[:5]}")
        elif names_in(watched) != left:
            wrong.append(f"{mode} {at}: again: left {names_in(watched)}")
        at += every
    print(json.dumps({"verb": verb, "mode": mode, "changes": changes, "tried": tried, "wrong": wrong}))


def names_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def faults_of(mode: str, code: int, said: str) -> list[str]:
    """Return what is wrong with how a disturbed run ended."""
    if mode != "fill":
        return [] if code == -signal.SIGKILL else [f"exit code {code}: {said[-300:]}"]
    if code == 0:  # what failed was optional
        return []
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said or code not in (1, 2) or len(lines) != 1 or "No space left" not in lines[0]:
        return [f"exit code {code}: {said[-300:]}"]
    return []


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
