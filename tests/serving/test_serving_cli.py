"""`exsearch serve`: what it says before it serves, how it stops, and what it refuses."""

import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
from click.testing import CliRunner

from exsearch.cli.serve import serve
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.build import build_index
from exsearch.serving import memory
from exsearch.serving.app import retrieval_app
from exsearch.serving.limits import Limits
from exsearch.serving.memory import available_memory, memory_need, refuse_if_too_large
from serving_server import running, tiny_index
from tiny_encoders import save_plain


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    tiny_index(folder)
    return folder


def test_serve_retrieval_says_what_it_needs_answers_and_stops_when_told_to(folder: Path) -> None:
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", "retrieval", str(folder / "index"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        need, listening = process.stderr.readline(), process.stderr.readline()
        assert re.search(r"bm25 index of 5 passages; needs about \d+\.\d GB of memory \(.* is free\) and maps", need)
        url = re.search(r"http://127\.0\.0\.1:\d+", listening)
        assert url is not None
        found = requests.post(f"{url[0]}/retrieve", json={"query": "Tiber", "top_k": 1}).json()
        assert found == [{"text": '"Italy"\nThe capital of Italy is Rome.\nIt lies on the Tiber.'}]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("server", [["retrieval"], ["mcp", "--transport", "http"]], ids=["retrieval", "mcp"])
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_as_soon_as_it_listens_ends_well(
    folder: Path, server: list[str], signal_number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", *server, str(folder / "index"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("listening" in line for line in process.stderr)
        process.send_signal(signal_number)
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


SLOW_SERVER = """
    import sys, threading
    from pathlib import Path
    from exsearch.corpus.store import Corpus
    from exsearch.serving.app import retrieval_app
    from exsearch.serving.limits import Limits
    from exsearch.serving.uvicorn_server import make_server, open_socket
    from serving_server import ScriptedRetriever

    def wait(queries):
        print("searching", flush=True)
        sys.stdin.readline()

    with open_socket("127.0.0.1", 0) as socket:
        print(socket.getsockname()[1], flush=True)
        app = retrieval_app(ScriptedRetriever(wait), Corpus.open(Path(sys.argv[1])), Limits())
        make_server(app, 30).run(sockets=[socket])
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_finishes_what_is_in_flight_and_takes_no_more(folder: Path, signal_number: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SLOW_SERVER), str(folder / "corpus")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command, text=True, cwd=tests, **pipes) as process, ThreadPoolExecutor(1) as pool:  # type: ignore[call-overload]
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}/retrieve"
        answer = pool.submit(requests.post, url, json={"query": "x", "top_k": 2})
        assert process.stdout.readline() == "searching\n"
        process.send_signal(signal_number)
        refused = threading.Event()
        while not refused.wait(0.05):
            try:
                socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0]))).close()
            except ConnectionRefusedError:
                refused.set()
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        assert len(answer.result().json()) == 2
        assert process.wait(timeout=60) == 0


def test_too_little_memory_is_refused_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = memory_need(folder / "index", folder / "corpus")
    mapped = sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in (".npy", ".arrow"))
    assert need.mapped == mapped
    assert 100e6 < need.resident < 1e9
    assert 0 < available_memory() <= psutil.virtual_memory().total
    refuse_if_too_large(folder / "index", need, need.resident)
    with pytest.raises(UsageError, match=r"0\.3 GB of memory, 0\.1 GB is free; .*--force"):
        refuse_if_too_large(folder / "index", need, 100_000_000)

    listened = []
    monkeypatch.setattr("exsearch.cli.serve._listen", lambda *arguments: listened.append(arguments))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000_000))
    result = CliRunner().invoke(serve, ["retrieval", str(folder / "index")])
    assert isinstance(result.exception, UsageError)
    assert listened == []
    assert CliRunner().invoke(serve, ["retrieval", str(folder / "index"), "--force"]).exit_code == 0
    assert len(listened) == 1


def test_the_memory_of_an_index_counts_the_models_of_its_members_and_each_process(folder: Path, tmp_path: Path) -> None:
    encoder = save_plain(tmp_path / "encoder")
    parameters = {"members": ["bm25", "late"], "late": {"encoder": str(encoder), "token_bytes": 8}}
    hybrid = build_index(Corpus.open(folder / "corpus"), "hybrid", tmp_path / "hybrid", **parameters)
    plain = memory_need(folder / "index", folder / "corpus").resident
    need = memory_need(hybrid, folder / "corpus").resident
    assert need - plain > (500 << 20) + (encoder / "model.safetensors").stat().st_size
    assert memory_need(hybrid, folder / "corpus", processes=3).resident == 3 * need


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = available_memory()
    for name, text in {"max": "9000000", "current": "6000000", "stat": "anon 1\ninactive_file 500000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert available_memory() == 3_500_000 < free
    (tmp_path / "memory.max").write_text("max")
    assert available_memory() > 3_500_000


def test_an_open_address_without_a_key_is_warned_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    arguments = ["retrieval", str(folder / "index"), "--port", "0", "--host"]
    assert "warning: anyone who reaches 0.0.0.0" in CliRunner().invoke(serve, [*arguments, "0.0.0.0"]).stderr
    assert "warning" not in CliRunner().invoke(serve, [*arguments, "127.0.0.1"]).stderr
    (folder / "key").write_text("key")
    with_key = [*arguments, "0.0.0.0", "--api-key-file", str(folder / "key")]
    assert "warning" not in CliRunner().invoke(serve, with_key).stderr


def test_a_taken_port_and_a_bad_host_are_usage_errors(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for extra, reason in ((["--port", port], "in use"), (["--host", "no.such.host.invalid"], "cannot listen")):
            result = CliRunner().invoke(serve, ["retrieval", str(folder / "index"), *extra])
            assert isinstance(result.exception, UsageError)
            assert reason in str(result.exception)


def test_check_reports_a_line_a_check_and_fails_if_one_fails(folder: Path) -> None:
    with running(retrieval_app(*tiny_index(folder / "other"), Limits())) as url:
        result = CliRunner().invoke(serve, ["check", url, "--dialect", "zerosearch", "--query", "capital"])
        assert result.exit_code == 0
        assert re.search(r"^zerosearch +one query, a bare list +ok$", result.stdout, re.MULTILINE)
        result = CliRunner().invoke(serve, ["check", url, "--dialect", "zerosearch", "--query", "xylophone", "--json"])
        assert isinstance(result.exception, ExSearchError)
        first, *others = json.loads(result.stdout)
        assert "--query" in first.pop("fault")
        assert first == {"dialect": "zerosearch", "check": "one query, a bare list"}
        assert {other["fault"] for other in others} == {None}
