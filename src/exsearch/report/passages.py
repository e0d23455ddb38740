"""Stores each passage of a page once, and bounds their size."""

from exsearch.corpus.passage import Passage

MAX_PASSAGE = 2_000
"""Maximum number of characters per passage."""
MAX_TEXT = 6_000_000
"""Maximum number of characters of all passages together."""


class PassageTable:
    """Assigns row numbers to distinct passages."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows: list[tuple[str, str, str]] = []
        self.shortened = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._size = 0

    def add(self, passage: Passage) -> int:
        """Return the row of `passage`; a new one if its id or its text is new."""
        key = (passage.id, passage.text)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append((passage.id, passage.title, self._bounded(passage.text)))
        return self._numbers[key]

    def _bounded(self, text: str) -> str:
        allowed = min(MAX_PASSAGE, MAX_TEXT - self._size)
        self._size += min(len(text), allowed)
        if len(text) <= allowed:
            return text
        self.shortened += 1
        return text[:allowed].rstrip() + " […]"
