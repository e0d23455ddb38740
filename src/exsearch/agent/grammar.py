"""The turns of a search conversation: how they are written and how the model's are read.

The reference's grammar (arXiv 2505.20128 and its code): `<QUERY>` asks, `<SEARCH>` returns passages, `<FACT>` records
evidence, `<FINAL>` ends the search. `<THINK>` is read as a synonym of `<QUERY>`.
"""

import re
from typing import ClassVar

import msgspec

from exsearch.files import fingerprint


class Action(msgspec.Struct, frozen=True):
    """What the model decided in one turn: evidence from the last search, then a new query or the end."""

    evidence: str | None
    query: str | None
    """None: the model wants to answer."""


class MalformedError(ValueError):
    """A turn does not follow the grammar."""


_TAG = r"<(?:QUERY|THINK|FACT|FINAL|SEARCH|USER QUERY)>"
_FIRST = re.compile(r"\s*<(?:QUERY|THINK)>(?P<query>.+)", re.DOTALL)
_LATER = re.compile(r"\s*<FACT>(?P<evidence>.*?)(?:<(?:QUERY|THINK)>(?P<query>.+)|<FINAL>\s*)", re.DOTALL)


class ExSearchGrammar:
    """Renders prompts and parses turns; it holds no state."""

    name: ClassVar[str] = "exsearch"
    tags: ClassVar[tuple[str, ...]] = ("<USER QUERY>", "<QUERY>", "<SEARCH>", "<FACT>", "<FINAL>")
    instruction: ClassVar[str] = (
        "Answer the question by searching. Write <QUERY> and what to look up. After each search write <FACT> and what "
        "you found, then the next <QUERY>, or <FINAL> once you know enough."
    )

    @property
    def fingerprint(self) -> str:
        """Identifies the wording."""
        return fingerprint([self.name, self.opening("?"), self.passage(1, "?", "?"), self.final_request("?")])

    def opening(self, question: str) -> str:
        """Return the first user turn."""
        return f"{self.instruction}\n<USER QUERY> {_one_line(question)}"

    def search_header(self) -> str:
        """Return what precedes the passages of a search."""
        return "<SEARCH>"

    def passage(self, number: int, title: str, text: str) -> str:
        """Return one passage of a search, numbered from 1; line breaks in it become spaces."""
        return f"\n[{number}] Title: {_one_line(title)} Content: {_one_line(text)}"

    def final_request(self, question: str) -> str:
        """Return the user turn that asks for the answer."""
        return f"Please give the final answer to the input question: {_one_line(question)}"

    def turn(self, action: Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""
        evidence = "" if action.evidence is None else f"<FACT> {_one_line(action.evidence)} "
        return evidence + ("<FINAL>" if action.query is None else f"<QUERY> {_one_line(action.query)}")

    def parse(self, text: str, first: bool) -> Action:
        """Read a turn of the model; raise MalformedError if it is not exactly one.

        The first turn must be a query; each later one must record evidence and then ask or end.
        """
        match = (_FIRST if first else _LATER).fullmatch(text)
        if match is None:
            raise MalformedError(text)
        fields = {name: value.strip() for name, value in match.groupdict().items() if value is not None}
        if any(re.search(_TAG, value) for value in fields.values()) or fields.get("query") == "":
            raise MalformedError(text)
        return Action(fields.get("evidence"), fields.get("query"))


def _one_line(text: str) -> str:
    return " ".join(text.split())
