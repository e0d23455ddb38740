"""Searches of many trajectories: together, apart where one fails, and never waited for without end."""

import asyncio
import threading
import time

import pytest

from exsearch.agent.search_queue import SearchQueue
from exsearch.config import RolloutConfig
from exsearch.corpus.passage import Hit, Passage
from exsearch.retrieval.base import RetrievalError

HIT = Hit(Passage("a", "A", "text"), 1.0, 1)
LIMITS = RolloutConfig(search_seconds=0.3, search_retries=2)


class Retriever:
    """Answers by what `answer` does with the queries."""

    fingerprint = "r"

    def __init__(self, answer) -> None:  # type: ignore[no-untyped-def]
        self.answer, self.calls = answer, []

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.calls.append(list(queries))
        return self.answer(queries)  # type: ignore[no-any-return]


def search_all(searcher: SearchQueue, queries: list[str]) -> list[object]:
    async def run() -> list[object]:
        return await asyncio.gather(*map(searcher.search, queries), return_exceptions=True)

    return asyncio.run(run())


def test_what_is_asked_at_once_is_searched_for_once() -> None:
    retriever = Retriever(lambda queries: [[HIT] for _ in queries])
    assert search_all(SearchQueue(retriever, 1, LIMITS), ["a", "b", "a"]) == [[HIT]] * 3
    assert retriever.calls == [["a", "b"]]


def test_the_pages_of_a_ranking_follow_each_other_to_its_end() -> None:
    ranking = [Hit(Passage(name, name, "text"), 1.0, rank) for rank, name in enumerate("abcde", 1)]

    class Ranked(Retriever):
        def search(self, queries: list[str], k: int) -> list[list[Hit]]:
            return [ranking[:k] for _ in queries]

    async def run() -> list[list[Hit]]:
        searcher = SearchQueue(Ranked(None), 2, LIMITS)
        return list(await asyncio.gather(*(searcher.search("q", page) for page in (3, 1, 2, 4))))

    third, first, second, fourth = asyncio.run(run())
    assert first + second + third == ranking
    assert fourth == []


def test_one_bad_query_costs_the_others_nothing() -> None:
    def answer(queries: list[str]) -> list[list[Hit]]:
        if "bad" in queries:
            raise RetrievalError("not that one")
        return [[HIT] for _ in queries]

    good, bad, other = search_all(SearchQueue(Retriever(answer), 1, LIMITS), ["good", "bad", "other"])
    assert good == other == [HIT]
    assert isinstance(bad, RetrievalError)


def test_a_failure_that_passes_is_tried_again() -> None:
    left = iter([True, True, False])

    def answer(queries: list[str]) -> list[list[Hit]]:
        if next(left):
            raise RetrievalError("try later")
        return [[HIT] for _ in queries]

    assert search_all(SearchQueue(Retriever(answer), 1, LIMITS), ["a"]) == [[HIT]]


GARBAGE: list[object] = [None, [], "hits", [[HIT], [HIT]], [[HIT, HIT]], [["text"]], [None]]
GARBAGE += [[[Hit(HIT.passage, score, 1)]] for score in (float("nan"), float("inf"))]
GARBAGE += [[[Hit(HIT.passage, 1.0, 0)]], [[Hit(Passage("a", "A", None), 1.0, 1)]]]  # type: ignore[arg-type]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_a_failure_that_says_so(garbage: object) -> None:
    [failed] = search_all(SearchQueue(Retriever(lambda queries: garbage), 1, RolloutConfig(search_retries=0)), ["a"])
    assert isinstance(failed, RetrievalError)
    assert "did not return" in str(failed)


def test_a_bug_in_a_retriever_is_a_failure_that_names_it() -> None:
    [failed] = search_all(SearchQueue(Retriever(lambda queries: 1 / 0), 1, RolloutConfig(search_retries=0)), ["a"])
    assert isinstance(failed, RetrievalError)
    assert "ZeroDivisionError" in str(failed)


def test_a_retriever_that_does_not_return_is_left_to_itself() -> None:
    stuck = threading.Event()

    def answer(queries: list[str]) -> list[list[Hit]]:
        if "stuck" in queries:
            stuck.wait()
        return [[HIT] for _ in queries]

    searcher = SearchQueue(Retriever(answer), 1, LIMITS)
    started = time.monotonic()
    [failed] = search_all(searcher, ["stuck"])
    assert isinstance(failed, RetrievalError)
    assert time.monotonic() - started < 5
    assert search_all(searcher, ["fine"]) == [[HIT]]
    stuck.set()


def test_searches_run_while_others_wait_for_nothing_of_theirs() -> None:
    released = threading.Event()

    def answer(queries: list[str]) -> list[list[Hit]]:
        released.wait(10)
        return [[HIT] for _ in queries]

    async def run() -> list[list[Hit]]:
        searcher = SearchQueue(Retriever(answer), 1, RolloutConfig())
        searching = asyncio.create_task(searcher.search("a"))
        await asyncio.sleep(0.05)  # the event loop goes on
        assert not searching.done()
        released.set()
        return [await searching]

    assert asyncio.run(run()) == [[HIT]]
