"""Checks of a server: a check is a function that asserts what a client needs."""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from exsearch.wire.probe import Probe, need

_NAMES = {"query", "queries"}


class Check(NamedTuple):
    """One check of a dialect."""

    dialect: str
    name: str
    run: Callable[[Probe], None]
    """Raises AssertionError with what is wrong."""


class Checks(list[Check]):
    """The checks of a dialect's file, in order."""

    def add(self, dialect: str, name: str) -> Callable[[Callable[[Probe], None]], Callable[[Probe], None]]:
        """Register the decorated function as a check."""

        def register(run: Callable[[Probe], None]) -> Callable[[Probe], None]:
            self.append(Check(dialect, name, run))
            return run

        return register


def need_list(value: Any, length: int | None, what: str) -> list[Any]:
    """Return `value`, which must be a list, and of `length` if that is given."""
    need(isinstance(value, list), f"{what} is not a list: {str(value)[:100]}")
    need(length is None or len(value) == length, f"{what} has {len(value)} entries, not {length}")
    return list(value)


def need_object(value: Any, what: str, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Return `value`, which must be an object with these keys, of these types."""
    need(isinstance(value, dict), f"{what} is not an object: {str(value)[:100]}")
    for key, kind in kinds.items():
        need(key in value, f"{what} has no `{key}`: {sorted(value)}")
        need(isinstance(value[key], kind), f"`{key}` of {what} has the wrong type: {str(value[key])[:100]}")
    return dict(value)


def need_documents(value: Any, k: int, what: str) -> list[Any]:
    """Return the passages of one query, from one to `k`."""
    documents = need_list(value, None, what)
    need(len(documents) > 0, f"{what} is empty; name a query for which this server has passages (--query)")
    need(len(documents) <= k, f"{what} has {len(documents)} passages, {k} were asked for")
    return documents


def need_contents(value: Any, what: str) -> str:
    """Return the `contents` of `value`, which must be a title line and a text."""
    contents = str(need_object(value, what, contents=str)["contents"])
    title, feed, text = contents.partition("\n")
    need(bool(feed and title and text), f"`contents` of {what} is not a title line and a text: {contents[:80]!r}")
    return contents


def need_descending(scores: list[float], what: str) -> None:
    """Check that scores are numbers in descending order."""
    need(all(isinstance(score, int | float) for score in scores), f"a score of {what} is not a number")
    need(scores == sorted(scores, reverse=True), f"{what} is not sorted by score: {scores}")


def need_scored(value: Any, k: int, what: str) -> list[str]:
    """Check the `{document, score}` list of one query; return the contents."""
    entries = [need_object(item, what, document=dict, score=(int, float)) for item in need_documents(value, k, what)]
    need_descending([item["score"] for item in entries], what)
    return [need_contents(item["document"], what) for item in entries]


def refusals(dialect: str, path: str, valid: Callable[[str, int], dict[str, Any]]) -> list[Check]:
    """Return the checks that bad input gets a client error and does no harm.

    `valid(query, k)` makes the body of a request to `path` for the `k` best passages of a query.
    """
    checks = Checks()
    bad: dict[str, Callable[[str], Any]] = {
        "k = 0": lambda query: valid(query, 0),
        "k = -1": lambda query: valid(query, -1),
        "k = 1,000,000": lambda query: valid(query, 1_000_000),
        "an empty query": lambda query: valid("", 3),
        "control characters": lambda query: valid(f"{query}\x00\x1b[2J", 3),
        "a query of 10 MB": lambda query: valid("word " * 2_000_000, 3),
        "invalid JSON": lambda query: json.dumps(valid(query, 3)).encode()[:-2],
        "JSON that is no object": lambda query: [query],
        "bytes that are not UTF-8": lambda query: json.dumps(valid(query, 3)).encode() + b"\xff",
        "a number as the query": lambda query: {**valid(query, 3), **dict.fromkeys(valid(query, 3).keys() & _NAMES, 5)},
    }
    for name, content in bad.items():

        def refused(probe: Probe, content: Callable[[str], Any] = content) -> None:
            reply = probe.post(path, content(probe.query))
            need(400 <= reply.status < 500, f"HTTP {reply.status}: {reply.body[:200]!r}")
            need(probe.post(path, valid(probe.query, 3)).status == 200, "the next request is not answered")

        checks.add(dialect, f"refused: {name}")(refused)

    def survives(probe: Probe) -> None:
        for _ in range(5):
            probe.hang_up(path, valid(probe.query, 3))
        time.sleep(0.1)
        need(probe.post(path, valid(probe.query, 3)).status == 200, "the next request is not answered")

    checks.add(dialect, "survived: clients that hang up")(survives)
    return checks
