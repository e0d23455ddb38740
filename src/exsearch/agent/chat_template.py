"""A model's chat template, rendered for a fixed date and split into what it writes around the texts of turns."""

import datetime
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from exsearch.core.errors import UsageError
from exsearch.core.thoughts import TAGS, end_of_begun, end_of_thoughts, without_thoughts

Thinking = Literal["template", "on", "off"]

_PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}User: {{ message.content }}\nAssistant:"
    "{% else %} {{ message.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
)
"""Template for base models that have none."""
_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set written = namespace(text=format) -%}"
    "{%- for directive, value in exsearch_day.items() -%}"
    "{%- set written.text = written.text | replace(directive, value) -%}"
    "{%- endfor -%}{{ written.text }}{%- endmacro -%}"
)
"""Prefix for a template: replaces the function with which templates read the clock."""
_DIRECTIVES = ("%-d", "%-m", "%-j", *(f"%{letter}" for letter in "aAbBdeHIjmMpSuUwWyYxXcDFzZ"))
_SWITCHES = ("enable_thinking", "thinking", "reasoning")
"""Names of the variables with which templates switch thinking on or off."""


@dataclass(frozen=True)
class Pieces:
    """What a template writes around the texts of turns."""

    head: str
    """Text before the first user turn's text."""
    opening: str
    """Text between a user turn's text and the model's turn."""
    thoughtless: str
    """What the model writes first if it does not think: the end of a thought that the opening started, or the empty
    thought that the template shows; empty if there is neither."""
    lead: str
    """White space that the model writes before its text."""
    close: str
    """Text after the model's text, up to the next user turn's text."""
    begins_thought: bool
    """Whether the opening starts a thought."""


class ChatTemplate:
    """Renders conversations with a model's own template, always for the same date."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, day: datetime.date, thinking: Thinking) -> None:
        """Use the tokenizer's template, or a plain one if the model has none. Raises UsageError."""
        self._tokenizer, self._thinking = tokenizer, thinking
        try:
            self.source = str(tokenizer.get_chat_template()) if tokenizer.chat_template else _PLAIN_TEMPLATE
        except ValueError:
            names = ", ".join(tokenizer.chat_template)
            raise UsageError(f"the model has several chat templates ({names}), none of them the default") from None
        self._template = (_CLOCK if self.tells_the_date else "") + self.source
        self.day = day

    @property
    def tells_the_date(self) -> bool:
        """Whether the template may write the date."""
        return "strftime_now" in self.source

    def render(self, contents: list[str], day: datetime.date | None = None, thinking: Thinking | None = None) -> str:
        """Return a conversation that starts with the user and ends where the model is to write, or after its turn."""
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
        options: dict[str, Any] = {"add_generation_prompt": len(contents) % 2 == 1}
        if self.tells_the_date:
            options["exsearch_day"] = _written(day or self.day)
        wish = thinking or self._thinking
        if wish != "template":
            options |= dict.fromkeys(_SWITCHES, wish == "on")
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, **options
            )
        except Exception as error:  # a template is a program, which may raise anything
            raise UsageError(f"the model's chat template refuses turns of user and assistant: {error}") from error
        return str(rendered)

    def head(self, day: datetime.date) -> str:
        """Return what the template writes, on this date, before the first user turn's text."""
        return self.render(["turn0mark"], day).partition("turn0mark")[0]

    def take_apart(self) -> Pieces:
        """Return the pieces. Raises UsageError if a conversation, once continued, would not start as it did before."""
        pieces = self._around()
        opening, thoughtless = pieces.opening, pieces.thoughtless
        if end := end_of_begun(opening):
            thoughtless = self._closing(opening, end)
        if self._thinking == "off":
            opening, thoughtless = opening + (thoughtless or self._empty_thought(opening)), ""
        begun = end_of_begun(opening) is not None
        return replace(pieces, opening=opening, thoughtless=thoughtless, begins_thought=begun)

    def _around(self) -> Pieces:
        """Split a rendered conversation, ignoring thoughts that the opening may start."""
        marks = [f"turn{number}mark" for number in range(5)]
        once, twice, thrice = (self._split(self.render(marks[:count]), marks[:count]) for count in (1, 3, 5))
        if not once[0] == twice[0] == thrice[0]:
            raise UsageError("the model's chat template changes the beginning of a conversation when it continues")
        if not twice[2] == thrice[2] == thrice[4]:
            raise UsageError("the model's chat template renders earlier turns differently from later ones")
        if not once[1] == twice[3] == thrice[5]:
            raise UsageError("the model's chat template treats the first answer differently from later ones")
        head, opening, after_prompt, close = once[0], once[1], twice[1], twice[2]
        before = after_prompt.removeprefix(opening) if after_prompt.startswith(opening) else ""
        thoughtless, lead = before[: (end := end_of_thoughts(before))], before[end:]
        if not lead.strip() and not (without_thoughts(thoughtless) or "").strip():
            return Pieces(head, opening, thoughtless, lead, close, False)
        if self._thinking == "on":
            raise UsageError(f"agent.thinking = on: the model's chat template begins its turns with {before!r}")
        return Pieces(head, after_prompt, "", "", close, False)  # a header, such as that of the channel for answers

    @staticmethod
    def _split(rendered: str, marks: list[str]) -> list[str]:
        pieces, rest = [], rendered
        for mark in marks:
            piece, mark_found, rest = rest.partition(mark)
            if not mark_found:
                raise UsageError("the model's chat template does not reproduce the text of every turn")
            pieces.append(piece)
        return [*pieces, rest]

    def _closing(self, opening: str, end_of_thought: str) -> str:
        """Return the end of an empty thought that the opening started: as the template writes it, if it does."""
        mark = "turn0mark"
        without = self.render([mark], thinking="off").partition(mark)[2]
        if without.startswith(opening) and without != opening:
            return without.removeprefix(opening)
        return ("\n" if opening.endswith("\n") else "") + end_of_thought + "\n\n"

    def _empty_thought(self, opening: str) -> str:
        """Return an empty thought for a thinking model whose template mentions thoughts but has no switch for them."""
        if any(end in opening for _, end in TAGS) or self.has_switch:
            return ""
        vocabulary = self._tokenizer.get_added_vocab()
        pairs = ((begin, end) for begin, end in TAGS if {begin, end} <= vocabulary.keys() and end in self.source)
        return next((f"{begin}\n\n{end}\n\n" for begin, end in pairs), "")

    @property
    def has_switch(self) -> bool:
        """Whether the template has a switch for thinking."""
        return self.render(["mark"], thinking="on") != self.render(["mark"], thinking="off")


def _written(day: datetime.date) -> dict[str, str]:
    moment = datetime.datetime.combine(day, datetime.time())
    return {directive: moment.strftime(directive) for directive in _DIRECTIVES}
