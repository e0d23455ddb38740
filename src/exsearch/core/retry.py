"""How often what failed is tried again, and how long is waited before."""

import email.utils
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_PAUSE = 60.0
"""Seconds between two attempts; a server that asks for more is given up."""


@dataclass(frozen=True)
class RetryPolicy:
    """So many retries, with pauses that double.

    >>> [pause > 0 for pause in RetryPolicy(retries=2, pause=0.5).pauses()]
    [False, True, True]
    """

    retries: int
    """Attempts after the first one."""
    pause: float
    """Seconds before the first retry, at the most."""

    def pauses(self) -> Iterator[float]:
        """Yield for each attempt the seconds to wait before it: none before the first, up to a minute before others.

        Each is drawn from the upper half of what doubling comes to, so that clients that failed together do not all
        come back at the same moment.
        """
        yield 0.0
        for retry in range(self.retries):
            yield min(self.pause * 2**retry, LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks to wait, as such or as a date (RFC 9110, section 10.2.3).

    0 for none, for one that asks for neither, and for a date that is past.
    """
    if header is None:
        return 0.0
    if header.isdecimal():
        return float(header)
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
