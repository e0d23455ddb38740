"""Grammars: the wording of prompts, and how the model's turns are read.

`Grammar` is the interface of all grammars; `ExSearchGrammar` is the project's own. Others are in `agent/grammars`.
"""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from exsearch.core.fingerprint import fingerprint


class Action(msgspec.Struct, frozen=True):
    """What the model does in one turn: select passages, record evidence from them, then search, answer or end.

    >>> xs.Action(evidence=None, query="founder of the Marlow Observatory").answer is None
    True
    """

    evidence: str | None
    query: str | None
    """None if the model wants to answer."""
    answer: str | None = None
    """The answer, in grammars in which the model answers without a request."""
    selected: tuple[int, ...] = ()
    """Numbers of the passages of the last search that the evidence is from, in grammars that `select`."""


class MalformedError(ValueError):
    """A turn does not follow the grammar.

    >>> agent.grammar.parse("I think it was Ada Quill.", first=True)
    Traceback (most recent call last):
    exsearch.agent.grammar.MalformedError: I think it was Ada Quill.
    """


class Grammar(ABC):
    """Writes prompts and parses turns. Methods that are not abstract do what most grammars need.

    >>> action = xs.Action(evidence=None, query="founder of the Marlow Observatory")
    >>> agent.grammar.turn(action)
    '<QUERY> founder of the Marlow Observatory'
    >>> agent.grammar.parse(agent.grammar.turn(action), first=True) == action
    True
    """

    name: str
    """Name in settings and trajectories; for your own grammar, the `module:Class` under which it was named."""
    decomposes: ClassVar[bool] = False
    """Whether its turns can be written from a decomposition: each turn records evidence, and searches or ends."""
    selects: ClassVar[bool] = False
    """Whether a turn names the passages that it reads before it records evidence from them."""
    tags: ClassVar[tuple[str, ...]] = ()
    """Strings that the vocabulary must be able to spell and that neither a query nor an answer may contain."""
    stops: ClassVar[tuple[str, ...]] = ()
    """Strings that end the model's writing within one turn, which it continues after the passages.

    Without any, it ends its chat turn instead, and passages come in the user's turn.
    """
    raw: ClassVar[bool] = False
    """Whether the opening is the whole prompt, without the model's chat template."""
    forgiving: ClassVar[bool] = False
    """Whether to parse a turn that was truncated at its token limit; for models not trained on the grammar."""

    passage_end: ClassVar[str] = ""
    """Text after a passage, also after a shortened one."""

    def __init__(self, prompt: str = "") -> None:
        """Use these words for the first prompt, with `{question}` for the question, instead of the grammar's."""
        self._prompt = prompt

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the wording."""
        rendered = [self.first_prompt("?"), self.first_query("?"), self.search_header(), self.passage(1, "?", "?")]
        rendered += [self.search_footer(), self.final_request("?"), self.answer("?")]
        if self.passage_end:  # earlier versions dropped it from a shortened passage
            rendered.append(self.passage_end)
        return fingerprint([self.name, *rendered])

    def first_prompt(self, question: str) -> str:
        """Return the first prompt."""
        if not self._prompt:
            return self.opening(question)
        return self._prompt.replace("{question}", self.plain(question))

    @abstractmethod
    def opening(self, question: str) -> str:
        """Return the grammar's own words for the first prompt."""

    def plain(self, text: str) -> str:
        """Return text from outside as one line.

        A custom first prompt gets the question in this form. A grammar with `stops` overrides it to break up its tags,
        and uses it wherever it writes a question or a passage: what it reads is in the same turn.
        """
        return one_line(text)

    def first_query(self, question: str) -> str | None:
        """Return the query to search for before the model writes anything; None if the model starts."""
        return None

    def answers_after(self, max_steps: int) -> int | None:
        """Return the number of searches after which the answer is requested in any case; None for never."""
        return None

    def search_header(self) -> str:
        """Return what precedes the passages of a search."""
        return "Passages:"

    def passage(self, number: int, title: str, text: str) -> str:
        """Return one passage of a search, numbered from 1; line breaks in it become spaces."""
        return f"\n[{number}] Title: {one_line(title)} Content: {one_line(text)}"

    def search_footer(self) -> str:
        """Return what follows the passages of a search."""
        return ""

    def final_request(self, question: str) -> str:
        """Return the request for the answer."""
        return f"Question: {one_line(question)}\nGive the answer alone: a name, a number or a date, no sentence."

    def answer(self, text: str) -> str:
        """Return the model's turn with an answer that was requested."""
        return text

    @abstractmethod
    def turn(self, action: Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""

    def read_answer(self, text: str) -> str:
        """Parse an answer that was requested. Raises MalformedError if it contains a tag."""
        if self.has_tag(text):
            raise MalformedError(text)
        return text.strip()

    def has_tag(self, text: str) -> bool:
        """Return whether a text contains a tag of the grammar."""
        return any(tag in text for tag in self.tags)

    @abstractmethod
    def parse(self, text: str, first: bool) -> Action:
        """Parse a turn of the model, the first or a later one. Raises MalformedError."""


_FIRST = re.compile(r"\s*<(?:QUERY|THINK)>(?P<query>.+)", re.DOTALL)
_LATER = re.compile(r"\s*<FACT>(?P<evidence>.*?)(?:<(?:QUERY|THINK)>(?P<query>.+)|<FINAL>\s*)", re.DOTALL)


class ExSearchGrammar(Grammar):
    """The reference's grammar (arXiv 2505.20128 and its code).

    `<QUERY>` searches, `<SEARCH>` returns passages, `<FACT>` records evidence, `<FINAL>` ends the search. `<THINK>` is
    a synonym of `<QUERY>`.
    """

    name = "exsearch"
    decomposes = True
    tags: ClassVar[tuple[str, ...]] = ("<USER QUERY>", "<QUERY>", "<THINK>", "<SEARCH>", "<FACT>", "<FINAL>")
    instruction: ClassVar[str] = (
        "Answer the question by searching. Write <QUERY> and what to look up. After each search write <FACT> and what "
        "you found, then the next <QUERY>, or <FINAL> once you know enough."
    )

    def opening(self, question: str) -> str:
        """Return the first user turn."""
        return f"{self.instruction}\n<USER QUERY> {one_line(question)}"

    def search_header(self) -> str:
        """Return what precedes the passages of a search."""
        return "<SEARCH>"

    def final_request(self, question: str) -> str:
        """Return the user turn that asks for the answer."""
        return f"Please give the final answer to the input question: {one_line(question)}"

    def turn(self, action: Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""
        evidence = "" if action.evidence is None else f"<FACT> {one_line(action.evidence)} "
        return evidence + ("<FINAL>" if action.query is None else f"<QUERY> {one_line(action.query)}")

    def parse(self, text: str, first: bool) -> Action:
        """Read a turn of the model; raise MalformedError if it is not exactly one.

        The first turn must be a query; each later one must record evidence and then ask or end.
        """
        match = (_FIRST if first else _LATER).fullmatch(text)
        if match is None:
            raise MalformedError(text)
        fields = {name: value.strip() for name, value in match.groupdict().items() if value is not None}
        if any(self.has_tag(value) for value in fields.values()) or fields.get("query") == "":
            raise MalformedError(text)
        return Action(fields.get("evidence"), fields.get("query"))


def one_line(text: str) -> str:
    """Return the text with every run of blanks and line breaks as one space."""
    return " ".join(text.split())
