"""What is said between the model, the retriever and the user: a grammar renders prompts and reads the model's turns.

`Grammar` says what every grammar offers; `ExSearchGrammar` is the project's own. Others are in `agent/grammars`.
"""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from exsearch.core.fingerprint import fingerprint


class Action(msgspec.Struct, frozen=True):
    """What the model decided in one turn: evidence from the last search, then a new query, an answer, or the end.

    >>> xs.Action(evidence=None, query="founder of the Marlow Observatory").answer is None
    True
    """

    evidence: str | None
    query: str | None
    """None: the model wants to answer."""
    answer: str | None = None
    """For grammars in which the model answers without being asked to."""


class MalformedError(ValueError):
    """A turn does not follow the grammar.

    >>> raise xs.MalformedError("<QUERY> without a word")
    Traceback (most recent call last):
    exsearch.agent.grammar.MalformedError: <QUERY> without a word
    """


class Grammar(ABC):
    """Renders prompts and parses turns. What is not abstract has what most grammars need.

    >>> action = xs.Action(evidence=None, query="founder of the Marlow Observatory")
    >>> agent.grammar.turn(action)
    '<QUERY> founder of the Marlow Observatory'
    >>> agent.grammar.parse(agent.grammar.turn(action), first=True) == action
    True
    """

    name: str
    """By which settings and trajectories name it; of a user's own, what `make_grammar` found it by."""
    decomposes: ClassVar[bool] = False
    """Whether its turns can be written from a decomposition: each records evidence, and asks or ends."""
    tags: ClassVar[tuple[str, ...]] = ()
    """What a model's vocabulary must be able to spell, and neither a query nor an answer may contain."""
    stops: ClassVar[tuple[str, ...]] = ()
    """Strings with which the model hands over within one turn, which it goes on with after the passages.

    Without any, it hands over by ending its turn of the chat, and passages are the user's.
    """
    raw: ClassVar[bool] = False
    """Whether the opening is the whole prompt, without the model's chat template."""
    forgiving: ClassVar[bool] = False
    """Whether a turn that was cut at its token limit is read as it is: for models not trained on the grammar."""

    passage_end: ClassVar[str] = ""
    """What stands behind the text of a passage, also where it is shortened."""

    def __init__(self, prompt: str = "") -> None:
        """Take the words of the first prompt, with `{question}` where the question goes, instead of the grammar's."""
        self._prompt = prompt

    @property
    def fingerprint(self) -> str:
        """Identifies the wording."""
        rendered = [self.first_prompt("?"), self.first_query("?"), self.search_header(), self.passage(1, "?", "?")]
        rendered += [self.search_footer(), self.final_request("?"), self.answer("?")]
        if self.passage_end:  # a shortened passage ended without, once
            rendered.append(self.passage_end)
        return fingerprint([self.name, *rendered])

    def first_prompt(self, question: str) -> str:
        """Return what the model is told before anything else."""
        if not self._prompt:
            return self.opening(question)
        return self._prompt.replace("{question}", self.plain(question))

    @abstractmethod
    def opening(self, question: str) -> str:
        """Return the grammar's own words for the first prompt."""

    def plain(self, text: str) -> str:
        """Return text from outside as one line, with nothing in it that the grammar would read."""
        return one_line(text)

    def first_query(self, question: str) -> str | None:
        """Return what is searched for before the model says anything; None if it begins."""
        return None

    def answers_after(self, max_steps: int) -> int | None:
        """Return after how many searches the answer is asked for, whatever the model wants; None: never."""
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
        """Return what asks for the answer."""
        return f"Question: {one_line(question)}\nGive the answer alone: a name, a number or a date, no sentence."

    def answer(self, text: str) -> str:
        """Return how the model gives an answer when it is asked to."""
        return text

    @abstractmethod
    def turn(self, action: Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""

    def read_answer(self, text: str) -> str:
        """Read the answer that the model was asked for; raise MalformedError if it contains a tag."""
        if self.has_tag(text):
            raise MalformedError(text)
        return text.strip()

    def has_tag(self, text: str) -> bool:
        """Return whether a text contains a tag of the grammar."""
        return any(tag in text for tag in self.tags)

    @abstractmethod
    def parse(self, text: str, first: bool) -> Action:
        """Read a turn of the model, the first or a later one; raise MalformedError if it is none."""


_FIRST = re.compile(r"\s*<(?:QUERY|THINK)>(?P<query>.+)", re.DOTALL)
_LATER = re.compile(r"\s*<FACT>(?P<evidence>.*?)(?:<(?:QUERY|THINK)>(?P<query>.+)|<FINAL>\s*)", re.DOTALL)


class ExSearchGrammar(Grammar):
    """The reference's grammar (arXiv 2505.20128 and its code).

    `<QUERY>` asks, `<SEARCH>` returns passages, `<FACT>` records evidence, `<FINAL>` ends the search. `<THINK>` is read
    as a synonym of `<QUERY>`.
    """

    name = "exsearch"
    decomposes = True
    tags = ("<USER QUERY>", "<QUERY>", "<THINK>", "<SEARCH>", "<FACT>", "<FINAL>")
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
