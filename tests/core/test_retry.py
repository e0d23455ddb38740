"""What failed is tried again after pauses that double, or after what a server asks for."""

import asyncio
import math
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core.retry import LONGEST_PAUSE, RetryPolicy, retry_after
from exsearch.engine.base import EngineError
from exsearch.engine.openai.endpoint import RETRY, Endpoint
from scripted_server import as_json, serving


@given(st.integers(0, 20), st.floats(0.001, 100))
def test_pauses_double_up_to_a_minute_and_the_first_attempt_has_none(retries: int, first: float) -> None:
    pauses = list(RetryPolicy(retries, first).pauses())
    assert len(pauses) == retries + 1 and pauses[0] == 0
    for retry, pause in enumerate(pauses[1:]):
        longest = min(first * 2**retry, LONGEST_PAUSE)
        assert longest / 2 <= pause <= longest


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    assert len({tuple(RetryPolicy(3, 0.5).pauses()) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("120", 120),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 0),
    ],
)
def test_what_a_server_asks_to_wait_is_read_and_nothing_else(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_server_may_say_until_when() -> None:
    assert math.isclose(retry_after(formatdate(time.time() + 30, usegmt=True)), 30, abs_tol=2)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that an endpoint waits; here nobody really does."""
    seconds: list[float] = []

    async def note(wait: float) -> None:
        seconds.append(wait)

    monkeypatch.setattr("exsearch.engine.openai.endpoint.asyncio.sleep", note)
    return seconds


def test_a_model_server_that_says_when_to_come_back_is_waited_for(waited: list[float]) -> None:
    replies = iter([(429, {"Retry-After": "7"}, b"{}"), (429, {}, b"{}")])
    with serving(lambda asked: next(replies, None) or as_json({})) as server:
        assert asyncio.run(Endpoint(f"http://{server.address}/v1", None, 9).post("completions", {})) == {}
    assert waited[0] == 7 and waited[1] <= 2 * RETRY.pause


def test_a_model_server_that_asks_for_an_hour_is_given_up_at_once(waited: list[float]) -> None:
    with serving(lambda asked: (429, {"Retry-After": "3600"}, b'{"detail": "out of quota"}')) as server:
        with pytest.raises(EngineError, match=r"HTTP 429: out of quota$"):
            asyncio.run(Endpoint(f"http://{server.address}/v1", None, 9).post("completions", {}))
        assert len(server.asked) == 1
    assert waited == []
