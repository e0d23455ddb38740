"""Messages of the library about its work: one logger, named `exsearch`.

A command shows them on stderr. A program that imports the library sees warnings there unless it configures logging,
which it does as for any other library: `logging.getLogger("exsearch")`.
"""

import logging
import sys
from typing import TextIO

logger = logging.getLogger("exsearch")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment, which a progress bar replaces while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def show_messages() -> None:
    """Print warnings and notes on stderr from now on, as a command does."""
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
    logger.setLevel(logging.INFO)
    logger.propagate = False
