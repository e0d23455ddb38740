"""Messages of the library about its work: one logger, named `exsearch`.

A command shows them on stderr. A program that imports the library sees warnings there unless it configures logging,
which it does as for any other library: `logging.getLogger("exsearch")`.
"""

import logging
import sys
from typing import TextIO

logger = logging.getLogger("exsearch")

_JOINERS = "\u200c\u200d"
"""Format characters that words of several scripts, and emoji, are written with."""


def printable(text: str) -> str:
    """Replace control characters, and those that reverse its direction: a terminal shows text from outside as text."""
    return "".join(character if character.isprintable() or character in _JOINERS else " " for character in text)


class _Lines(logging.Formatter):
    """Keeps the line breaks of a message, such as those of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment, which a progress bar replaces while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_Lines())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def show_messages() -> None:
    """Print warnings and notes on stderr from now on, as a command does."""
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
    logger.setLevel(logging.INFO)
    logger.propagate = False
