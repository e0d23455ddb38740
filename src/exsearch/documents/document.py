"""A document: its title, and blocks of text that each say where they are."""

import msgspec


class Block(msgspec.Struct, frozen=True):
    """A paragraph, a list item, a row of a table, or some lines of code."""

    text: str
    headings: tuple[str, ...] = ()
    """The headings that it stands under, outermost first."""
    place: str = ""
    """What follows `#` in a link to it: `page=3` in a PDF file, an anchor in HTML, `L12` for a line of text."""
    is_lines: bool = False
    """Whether line ends mean something, as in code; it is cut there instead of at sentences."""


class Document(msgspec.Struct, frozen=True):
    """What a reader returns."""

    title: str
    blocks: list[Block]


class Headings:
    """The headings above the place that a reader has reached."""

    def __init__(self) -> None:
        """Start without any."""
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> None:
        """Begin what is under a heading; it ends those of the same level and of levels below."""
        self._open = [*(each for each in self._open if each[0] < level), (level, text)]

    @property
    def path(self) -> tuple[str, ...]:
        """The headings, outermost first."""
        return tuple(text for _, text in self._open)
