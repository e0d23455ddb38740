"""An endpoint that sends too much, forever or garbage ends in one error within bounds."""

import asyncio
import threading

import pytest

from exsearch.engine.base import EngineError
from exsearch.engine.openai.endpoint import Endpoint
from exsearch.network import http_client
from scripted_server import Asked, Reply, serving


def ask(address: str, seconds: float = 5.0) -> object:
    return asyncio.run(Endpoint(f"http://{address}/v1", None, seconds).post("completions", {"prompt": "a"}))


def test_an_answer_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BYTES", 1 << 20)
    with (
        serving(lambda asked: (200, {}, b" " * (2 << 20))) as server,
        pytest.raises(EngineError, match="the answer is longer than 1 MiB"),
    ):
        ask(server.address)


def test_an_answer_that_trickles_ends_at_the_time_limit() -> None:
    done = threading.Event()

    def drip(asked: Asked) -> Reply:
        done.wait(3)
        return 200, {}, b"{}"

    with serving(drip) as server:
        with pytest.raises(EngineError, match=r"no answer within 0\.2 s"):
            ask(server.address, 0.2)
        done.set()


def test_an_answer_that_is_no_gzip_though_it_says_so_is_one_error() -> None:
    with (
        serving(lambda asked: (200, {"Content-Encoding": "gzip"}, b"plain")) as server,
        pytest.raises(EngineError, match=r"http://127\.0\.0\.1:\d+/v1: "),
    ):
        ask(server.address)


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(lambda asked: (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b"")) as server,
        pytest.raises(EngineError, match="HTTP 302"),
    ):
        ask(server.address)
