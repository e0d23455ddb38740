"""Passages in wire formats: title and text apart, or both in one string; a missing id is made from the content."""

import hashlib

import msgspec

from exsearch.corpus.passage import Passage, split_contents


def contents_of(passage: Passage) -> str:
    """Return the quoted title as the first line, then the text: clients split at the first line feed."""
    return f'"{passage.title.replace(chr(10), " ")}"\n{passage.text}'


class WireDocument(msgspec.Struct):
    """A passage as servers send it."""

    id: str | int | None = None
    contents: str | None = None
    title: str | None = None
    text: str | None = None

    def passage(self) -> Passage:
        """Return the passage. Raises ValueError if there is none."""
        if self.text is not None:
            return passage_of(self.title or "", self.text, self.id)
        if self.contents is None:
            raise ValueError("a document has neither `contents` nor `text`")
        return from_contents(self.contents, self.id)


def from_contents(contents: str, id: str | int | None) -> Passage:
    """Take the first line, quoted or not, as the title; a text of one line has none."""
    return passage_of(*split_contents(contents), id)


def passage_of(title: str, text: str, id: str | int | None) -> Passage:
    """Return a passage; if the server has no id, it is derived from the content."""
    if id is None:
        id = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=8).hexdigest()
    return Passage(str(id), title, text)
