"""Ctrl-C and SIGTERM end every command in one line, with nothing left behind; a second one ends it at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World

STOPPED = "error: interrupted; run the same command again to resume"
AT_ONCE = "error: stopped at once"
SIGNALS = [signal.SIGINT, signal.SIGTERM]
AGENT = ["agent.turn_tokens=16", "agent.max_steps=1", "rollout.in_flight=4", "explore.samples=4"]
TRAINING = ["warmup.epochs=1000", "warmup.save_steps=1", "warmup.batch_size=4", "model.precision=fp32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopping")
    world = World(seed=3, passages=300)
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    write_jsonl(folder / "questions.jsonl", world.questions("train", limit=24, hops=[1]))
    return folder


class Command:
    """An `exsearch` command under way."""

    def __init__(self, *words: object, settings: list[str], temporary: Path) -> None:
        options = [word for setting in settings for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exsearch.cli.main", *map(str, words), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"},
        )
        self.children: list[psutil.Process] = []

    def wait_for(self, something: Callable[[], object]) -> None:
        """Wait until it has come so far; where it hangs, show the stacks of its threads."""
        deadline = time.monotonic() + 120
        while not something():
            if time.monotonic() > deadline:
                self.process.send_signal(signal.SIGABRT)
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.02)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int, all_of_it: bool = False) -> list[str]:
        """Send a signal, to its children, too, if all of it is to stop; return what it says on stderr."""
        for child in self.children if all_of_it else []:
            child.send_signal(number)
        self.process.send_signal(number)
        return self.process.communicate(timeout=120)[1].splitlines()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Return a function that starts a command whose temporary files are in a folder of its own; none may be left."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    commands: list[Command] = []

    def start(*words: object, settings: list[str]) -> Command:
        commands.append(Command(*words, settings=settings, temporary=temporary))
        return commands[-1]

    yield start
    for command in commands:
        command.process.kill()
        command.process.communicate()
    _, alive = psutil.wait_procs([child for command in commands for child in command.children], timeout=60)
    assert not alive, "a child outlives its command"
    assert not [path for path in temporary.rglob("*") if path.is_file()]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_stopped(command: Command, said: list[str]) -> None:
    assert command.process.returncode == 1, said
    assert said[-1] == STOPPED
    assert not [line for line in said if "terminate called" in line or "Traceback" in line]


@pytest.mark.parametrize(
    ("verb", "number", "copies"),
    [
        ("explore", signal.SIGINT, 1),
        pytest.param("explore", signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param("explore", signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param("explore", signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param("eval", signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param("eval", signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_the_model_at_work_is_stopped_in_one_line(
    start: Callable[..., Command], folder: Path, builtin: Path, tmp_path: Path, verb: str, number: int, copies: int
) -> None:
    out = tmp_path / "out"
    journal = out if verb == "explore" else out / "trajectories.jsonl"
    words = [folder / "questions.jsonl"] if verb == "explore" else ["--questions", folder / "questions.jsonl"]
    settings = [*AGENT, f"model.data_parallel={copies}"]
    command = start(verb, *words, "--index", folder / "index", "--model", builtin, "--out", out, settings=settings)
    command.wait_for(lambda: lines(journal))
    assert_stopped(command, command.stop(number, all_of_it=True))
    assert all(line["stop_reason"] != "engine_failed" for line in lines(journal))


@pytest.mark.parametrize(
    ("number", "ranks"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_a_training_is_stopped_in_one_line_and_leaves_no_file_half_written(
    start: Callable[..., Command], folder: Path, tiny_checkpoint: Path, tmp_path: Path, number: int, ranks: int
) -> None:
    out, settings = tmp_path / "out", [*TRAINING, f"warmup.ranks={ranks}"]
    words = ["warmup", folder / "questions.jsonl", "--index", folder / "index", "--model", tiny_checkpoint]
    command = start(*words, "--out", out, settings=settings)
    command.wait_for(lambda: list(tmp_path.glob("out.resume/*/step-*")))
    assert_stopped(command, command.stop(number))
    [points] = (tmp_path / "out.resume").iterdir()
    assert [path.name[:5] for path in points.iterdir()] == ["step-"]
    assert not out.exists()


@pytest.mark.slow
def test_ranks_end_with_a_starter_that_is_killed(
    start: Callable[..., Command], folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    words = ["warmup", folder / "questions.jsonl", "--index", folder / "index", "--model", tiny_checkpoint]
    command = start(*words, "--out", tmp_path / "out", settings=[*TRAINING, "warmup.ranks=2"])
    command.wait_for(lambda: list(tmp_path.glob("out.resume/*/step-*")))
    assert len(command.children) == 2
    command.process.kill()
    assert not psutil.wait_procs(command.children, timeout=60)[1]


@pytest.mark.parametrize("number", SIGNALS)
def test_an_mcp_server_on_standard_input_is_stopped_without_a_word(folder: Path, number: int) -> None:
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", "mcp", str(folder / "index")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert len(process.stderr.readlines()) == 1, "what it said when it began"


SCRIPT = """
import sys, time
from exsearch.processes import stopping
stopping.listen()
try:
    print("begun", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("clearing up", flush=True)
    time.sleep(float(sys.argv[1]))
    print("done", flush=True)
    stopping.leave(1)
"""


def script(seconds: float, ignored: int | None = None) -> "subprocess.Popen[str]":
    """A process that takes some seconds to stop, and has begun."""

    def ignore() -> None:
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    command = [sys.executable, "-c", SCRIPT, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ignore)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(("first", "second"), [SIGNALS, SIGNALS[::-1], [signal.SIGINT, signal.SIGINT]])
def test_a_second_signal_ends_what_takes_long_to_stop_at_once(first: int, second: int) -> None:
    process = script(600)
    process.send_signal(first)
    assert process.stdout is not None and process.stdout.readline() == "clearing up\n"
    time.sleep(0.6)  # signals closer together count as one
    process.send_signal(second)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()) == (1, "", [AT_ONCE])


def test_signals_that_come_together_are_one_stop() -> None:
    process = script(0.2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("clearing up\ndone\n", "")
    assert process.returncode == 1


def test_a_ctrl_c_that_a_shell_has_ignored_for_its_background_stays_ignored() -> None:
    process = script(0, ignored=signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "clearing up\ndone\n"


STUCK = """
import threading, time
from exsearch.processes import stopping
from exsearch.processes.worker import Worker
begun = threading.Event()
worker = Worker("stuck")
def never():
    begun.set()
    time.sleep(600)
threading.Thread(target=worker.wait_for, args=(never,), daemon=True).start()
begun.wait()
print("said", end="")
stopping.leave(3)
"""


def test_a_thread_that_never_returns_keeps_neither_the_process_nor_its_exit_code_nor_what_it_said() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said", "")


IMPORTING = """
import ctypes, os, signal, sys
from exsearch.cli import main
from exsearch.compat.searchlm import main as reference

def imports(*words, **options):
    # as an extension module that runs Python code while it is made
    run = ctypes.pythonapi.PyRun_String
    run.restype, run.argtypes = ctypes.py_object, [ctypes.c_char_p, ctypes.c_int, ctypes.py_object, ctypes.py_object]
    try:
        run(b"import os, signal; os.kill(os.getpid(), signal.{name})", 257, {{}}, {{}})
    except KeyboardInterrupt as error:
        raise {raised} from error

main.exsearch = reference._run = imports
{command}.main()
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("raised", ["ImportError('initialization failed')", "error"])
@pytest.mark.parametrize("command", ["main", "reference"])
def test_a_signal_while_a_library_is_imported_is_a_stop(number: signal.Signals, raised: str, command: str) -> None:
    program = IMPORTING.format(name=number.name, raised=raised, command=command)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.splitlines()) == (1, [STOPPED])
