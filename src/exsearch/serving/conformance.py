"""Checks any retrieval server: sends what the clients of each dialect send, and checks what they need in return."""

from collections.abc import Callable, Iterator

import httpx2
import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.registry import unknown
from exsearch.wire.probe import SECONDS, Probe
from exsearch.wire.registry import CHECKS

DIALECTS = list(dict.fromkeys(check.dialect for check in CHECKS))


class CheckResult(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    dialect: str
    check: str
    fault: str | None
    """What is wrong; None if the check passed."""


def run_checks(url: str, dialect: str, query: str, api_key: str | None = None) -> Iterator[CheckResult]:
    """Yield the outcome of each check of `dialect` ("all" for every one) as soon as it is done.

    Every request carries the key, if there is one. Raises UsageError for an unknown dialect, for an invalid URL, and if
    nothing answers there.
    """
    if dialect != "all" and dialect not in DIALECTS:
        raise UsageError(unknown("dialect", dialect, ["all", *DIALECTS]))
    probe = Probe(url, query, api_key)
    try:
        probe.get("/")
    except (OSError, httpx2.HTTPError) as error:
        raise UsageError(f"{probe.shown}: no server answers there ({error})") from None
    for check in CHECKS:
        if dialect in ("all", check.dialect):
            yield CheckResult(check.dialect, check.name, _fault(check.run, probe))


def _fault(check: Callable[[Probe], None], probe: Probe) -> str | None:
    try:
        check(probe)
    except (TimeoutError, httpx2.TimeoutException):
        return f"no answer within {SECONDS} s"
    except (LookupError, TypeError, ValueError) as error:
        return f"the answer has another shape ({type(error).__name__}: {error})"
    except (AssertionError, OSError, httpx2.HTTPError) as error:
        return str(error) or type(error).__name__
    return None
