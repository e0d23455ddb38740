"""Futures get their outcome once, from whichever thread, and a loop that is gone is no error."""

import asyncio
import threading

import pytest

from exsearch.processes.futures import settle, settle_from_thread


def test_values_and_errors_reach_those_who_wait_in_another_thread() -> None:
    async def wait() -> list[object]:
        one, other = (asyncio.get_running_loop().create_future() for _ in range(2))
        threading.Thread(target=settle_from_thread, args=([(one, 1), (other, ValueError("two"))],)).start()
        return await asyncio.gather(one, other, return_exceptions=True)

    value, error = asyncio.run(wait())
    assert value == 1
    assert isinstance(error, ValueError) and str(error) == "two"


def test_what_is_done_or_was_given_up_keeps_what_it_has() -> None:
    async def wait() -> list[object]:
        done, cancelled, waiting = (asyncio.get_running_loop().create_future() for _ in range(3))
        done.set_result("first")
        cancelled.cancel()
        settle([(done, "second"), (cancelled, ValueError()), (waiting, "third")])
        return await asyncio.gather(done, cancelled, waiting, return_exceptions=True)

    first, given_up, third = asyncio.run(wait())
    assert (first, third) == ("first", "third")
    assert isinstance(given_up, asyncio.CancelledError)


def test_a_loop_that_is_closed_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.close()
    with pytest.raises(RuntimeError):
        loop.call_soon_threadsafe(print)
    settle_from_thread([(future, 1)])
    settle_from_thread([])
    assert not future.done()
