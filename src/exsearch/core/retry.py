"""The number of retries of a failed operation, and the pauses between attempts."""

import email.utils
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_PAUSE = 60.0
"""Maximum pause in seconds between two attempts; if a server asks for a longer one, the request fails."""


@dataclass(frozen=True)
class RetryPolicy:
    """A number of retries, with pauses that double.

    >>> [pause > 0 for pause in RetryPolicy(retries=2, pause=0.5).pauses()]
    [False, True, True]
    """

    retries: int
    """Maximum number of attempts after the first one."""
    pause: float
    """Maximum seconds before the first retry."""

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each attempt: none before the first, at most a minute before others.

        Each pause is drawn from the upper half of the doubled value, so that clients that failed together do not retry
        at the same moment.
        """
        yield 0.0
        for retry in range(self.retries):
            yield min(self.pause * 2**retry, LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks to wait, as a number or as a date (RFC 9110, section 10.2.3).

    0 without a header, for a malformed one, and for a date in the past.
    """
    if header is None:
        return 0.0
    if header.isdecimal():
        return float(header)
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
