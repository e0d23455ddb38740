"""Common part of checkpoints trained by reinforcement learning with tags: one turn, interrupted by searches.

The model reasons, writes a query between two tags, gets passages between two others, and continues; an answer between
tags ends the turn. Only queries and answers are recorded: what the model thinks about the passages is not evidence.
"""

import re
from typing import ClassVar

from exsearch.agent.grammar import Action, Grammar, MalformedError, one_line


class TaggedGrammar(Grammar):
    """Reads the first pair of tags; text before it is reasoning, text after it is ignored."""

    query_tags: ClassVar[tuple[str, str]]
    result_tags: ClassVar[tuple[str, str]]
    answer_tags: ClassVar[tuple[str, str]] = ("<answer>", "</answer>")
    thought_tags: ClassVar[tuple[str, str]] = ("<think>", "</think>")
    """Tags that its wording mentions; text between them is reasoning like the rest."""

    def __init_subclass__(cls) -> None:
        """Derive the stop strings and the pattern from the tags."""
        cls.stops = (cls.query_tags[1], cls.answer_tags[1])
        cls.tags = cls.query_tags + cls.answer_tags + cls.result_tags + cls.thought_tags
        pairs = (
            f"{re.escape(opened)}(?P<{name}>.*?){re.escape(closed)}"
            for name, (opened, closed) in (("query", cls.query_tags), ("answer", cls.answer_tags))
        )
        cls._action = re.compile("|".join(pairs), re.DOTALL)

    _action: ClassVar[re.Pattern[str]]

    def plain(self, text: str) -> str:
        """Return text from outside as one line with every tag broken up: only the grammar may end the passages."""
        line = one_line(text)
        for tag in self.tags:
            line = line.replace(tag, f"{tag[0]} {tag[1:]}")
        return line

    def final_request(self, question: str) -> str:
        """Return the tag after which the model answers."""
        return self.answer_tags[0]

    def answer(self, text: str) -> str:
        """Return an answer with its closing tag."""
        return f" {text} {self.answer_tags[1]}"

    def turn(self, action: Action) -> str:
        """Return the query or the answer between its tags."""
        if action.answer is not None:
            return self.answer_tags[0] + self.answer(one_line(action.answer))
        return f"{self.query_tags[0]} {one_line(action.query or '')} {self.query_tags[1]}"

    def parse(self, text: str, first: bool) -> Action:
        """Read the first query or answer; raise MalformedError if there is none or it contains a tag."""
        match = self._action.search(text)
        if match is None:
            raise MalformedError(text)
        content = one_line(match[match.lastgroup or 0])
        if self.has_tag(content):
            raise MalformedError(text)
        if match.lastgroup == "answer":
            return Action(None, None, content)
        if query := self.cleaned(content):
            return Action(None, query)
        raise MalformedError(text)

    def cleaned(self, query: str) -> str:
        """Return the query as it is searched for."""
        return query
