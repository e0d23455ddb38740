"""Chat format: conversations as token ids, extended turn by turn, as the model's chat template writes them.

A trajectory's tokens must never change afterwards, so each turn is tokenised once, when it is added, and only
appended. A turn is tokenised together with what the template writes around it, so that its tokens equal those of the
whole conversation; a template or tokenizer with which they cannot be equal is refused. Text from outside (questions,
passages, answers) stays text, even if it spells a control token.
"""

import datetime
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from exsearch.agent.chat_template import ChatTemplate, Pieces
from exsearch.agent.control_tokens import ControlTokens
from exsearch.agent.grammar import Grammar
from exsearch.agent.grammars.registry import make_grammar, wording
from exsearch.agent.in_context import InContext
from exsearch.config import AgentConfig
from exsearch.core.checkpoint import explained
from exsearch.core.errors import UsageError
from exsearch.core.thoughts import TAGS, end_of_thoughts
from exsearch.core.tokens import TokenIds, common_start
from exsearch.engine.models.checkpoint import stop_tokens

_BEGINNINGS = ("<QUERY> who", "<FACT> the", "Paris", "1987", "(a) one", '"A', "École", "Ünal", "東京", "- x")
"""Beginnings of the model's turns, with which to check that no token spans the prompt and the turn."""
_TURNS = ("Who? Say it", "Ann Lee!", "Which one?\n[1] Title: A. Content: It was 1987.", "1987.", "And “why”: it?")
"""A conversation on which to compare the two tokenisations."""
_DAYS = 3653
"""Ten years."""


class ChatFormat:
    """Converts text to token ids as the model's chat template would, turn by turn."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        agent: AgentConfig | None = None,
        stops: Sequence[int] = (),
        grammar: Grammar | None = None,
    ) -> None:
        """Analyse the template, for the date and the grammar of the settings; `stops` are further stop tokens.

        The grammar is made from the settings if none is given.

        Raises UsageError for a template whose turns do not end in a control token, or with which a conversation's
        turns, tokenised one by one, would not give the tokens of the whole.
        """
        self.tokenizer, self.agent, self._stops = tokenizer, agent or AgentConfig(), stops
        added = tokenizer.get_added_vocab()
        self.grammar = grammar or make_grammar(self.agent)
        self.tags = tuple(tag for tag in self.grammar.tags if tag in added)
        """Tags of the grammar that are single tokens of the vocabulary."""
        self._controls = ControlTokens(tokenizer.backend_tokenizer, self.tags)
        self._text = InContext(self._controls)
        self.start: TokenIds = tokenizer("").input_ids
        """Start of a text without chat template: the beginning-of-text token, for models that have one."""
        self.template = ChatTemplate(tokenizer, self.agent.date, self.agent.thinking)
        self._take_apart()
        [self.stop_id] = self._controls.encode(self._stop)
        """Token that ends the model's turn in the template."""
        stop_ids = (id_ for id_ in (self.stop_id, tokenizer.eos_token_id, *stops) if isinstance(id_, int))
        self.stop_ids: TokenIds = list(dict.fromkeys(stop_ids))
        """All tokens that end a turn, `stop_id` first."""
        self._require_own_tokens()

    @classmethod
    def load(cls, folder: Path, agent: AgentConfig | None = None, grammar: Grammar | None = None) -> "ChatFormat":
        """Load the tokenizer of a checkpoint folder, and the stop tokens that its generation config names."""
        with explained(folder):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UsageError(f"{folder}: its tokenizer has no fast version (tokenizer.json)")
        return cls(tokenizer, agent, stop_tokens(folder), grammar)

    def unthinking(self) -> "ChatFormat":
        """Return the format of the same model without the start of a thought in its prompts, for turns by another
        model."""
        if not self.begins_thought:
            return self
        return self.by(msgspec.structs.replace(self.agent, thinking="off"), self.grammar)

    def _take_apart(self) -> None:
        pieces, hide = self.template.take_apart(), self._controls.hide
        ends = self._controls.spelled_in(pieces.close)
        if not ends or pieces.close[: ends[0].start()].strip():
            raise UsageError("the model's chat template does not end an assistant turn with a special token")
        stop = ends[0]
        self._head, self._stop, self._following = map(hide, (pieces.head, stop[0], pieces.close[stop.end() :]))
        self.trail = pieces.close[: stop.start()]
        """White space that the model writes between its text and its stop token."""
        self.begins_thought = pieces.begins_thought
        """Whether a prompt ends inside a thought, so that the model's turn starts there."""
        whole = pieces.opening
        for opening in dict.fromkeys((whole, whole.rstrip(" "), whole.rstrip())):
            self._opening = hide(opening)
            """Everything that the template writes between the user's text and the model's turn."""
            marks = self._controls.spelled_in(opening)
            self._context = hide(opening[marks[-1].start() :]) if marks else f"{self._head}x{self._opening}"
            """Position from which the end of the prompt is tokenised."""
            for thoughtless, blank in _without_thought(pieces.thoughtless):
                self.thoughtless, self._thoughtless = thoughtless, hide(thoughtless)
                """What the model writes first if it does not think, such as the end of a thought that the prompt has
                opened."""
                self.lead = blank + whole.removeprefix(opening) + pieces.lead
                """White space that the model writes before its text."""
                if self._is_seam():
                    return
        raise UsageError("the model's tokenizer merges the end of a prompt and the start of an answer into one token")

    def _is_seam(self) -> bool:
        """Return whether no token spans the end of a prompt and the start of a turn of the model."""
        if self._text.tokens_after(self._context, self._thoughtless) is None:
            return False
        before = self._context + self._thoughtless
        return all(self._text.tokens_after(before, self.lead + text) is not None for text in _BEGINNINGS)

    def _require_own_tokens(self) -> None:
        """Raise UsageError unless the turns' tokens, joined, are those of the whole conversation."""
        first, first_answer, second, second_answer, third = _TURNS
        ids = self.first_prompt(first) + self.turn_ids(first_answer)
        ids += self.next_prompt(second) + self.turn_ids(second_answer) + self.next_prompt(third)
        first_answer, second_answer = (
            f"{self._thoughtless}{self.lead}{text}{self.trail}" for text in (first_answer, second_answer)
        )
        between = f"{self._stop}{self._following}"
        parts = (
            self._head,
            first,
            self._opening,
            first_answer,
            between,
            second,
            self._opening,
            second_answer,
            between,
            third,
        )
        whole = self._controls.show("".join(parts) + self._opening)
        if ids != self.tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False).ids:
            raise UsageError("the model's tokenizer splits a conversation into other tokens than its single turns")

    def on(self, day: datetime.date) -> "ChatFormat":
        """Return the format of the same model for another date."""
        return self.by(msgspec.structs.replace(self.agent, date=day), self.grammar)

    def grammar_of(self, agent: AgentConfig) -> Grammar:
        """Return the grammar of settings: its own, unless they name another."""
        return self.grammar if wording(agent) == wording(self.agent) else make_grammar(agent)

    def by(self, agent: AgentConfig, grammar: Grammar) -> "ChatFormat":
        """Return the format of the same model by other settings, whose grammar is this one."""
        return ChatFormat(self.tokenizer, agent, self._stops, grammar)

    @cached_property
    def head(self) -> TokenIds:
        """The tokens with which every conversation starts."""
        one, other = self.first_prompt("Answer"), self.first_prompt("1?")
        return one[: common_start(one, other)]

    def day_of(self, prompt: TokenIds) -> datetime.date | None:
        """Return the date with which this would be the first prompt of a conversation; None if there is none.

        Looks ten years back and ahead. If the template does not write a date, returns the date of this format.
        """
        decoded = self._controls.decode(prompt)
        if not decoded.endswith(self._shown.opening):
            return None
        if prompt[: len(self.head)] == self.head:
            return self.agent.date
        if not self.template.tells_the_date:
            return None
        text = self._controls.show(decoded)
        today = datetime.datetime.now(datetime.UTC).date()
        days = (today + datetime.timedelta(days=far) for far in (*range(1, -_DAYS, -1), *range(2, _DAYS)))
        alike = (day for day in days if text.startswith(self.template.head(day)))
        return next((day for day in alike if prompt[: len(head := self.on(day).head)] == head), None)

    def first_prompt(self, text: str) -> TokenIds:
        """Return a conversation that starts with a text by the user, up to the point where the model writes."""
        return self._controls.encode(f"{self._head}{text}{self._opening}")

    def next_prompt(self, text: str) -> TokenIds:
        """Return what follows the model's stop token: the user's next text, up to the point where the model writes."""
        return self._controls.encode(f"{self._stop}{self._following}{text}{self._opening}")[1:]

    def turn_ids(self, text: str) -> TokenIds:
        """Return the tokens of a turn of the model with this text, including its stop token."""
        return self.without_thought([]) + self.answer_ids(text)

    def answer_ids(self, text: str, after_thought: bool = False) -> TokenIds:
        """Return the same without the empty thought at its start, if the model writes one when it does not think.

        `after_thought` says that the text follows a thought of the model, and the white space after it.
        """
        if after_thought:
            return [*self.encode(text + self.trail), self.stop_id]
        text_of_turn = f"{self.lead}{text}{self.trail}"
        ids = self._text.tokens_after(self._context + self._thoughtless, text_of_turn + self._stop)
        return [*self.encode(text_of_turn), self.stop_id] if ids is None else ids

    def without_thought(self, prompt: TokenIds) -> TokenIds:
        """Return a prompt continued with the empty thought that precedes an answer, if the model needs one."""
        return prompt + (self._text.tokens_after(self._context, self._thoughtless) or [])

    def retold_ids(self, text: str) -> tuple[TokenIds, TokenIds]:
        """Return the tokens of a whole turn that was stored as text, as a pair: of its thoughts, and of the rest."""
        end = end_of_thoughts(text)
        if not end:
            return self.without_thought([]), self.answer_ids(text)
        return self.encode_completion(text[:end]), [*self.encode(text[end:]), self.stop_id]

    def encode_completion(self, text: str) -> TokenIds:
        """Return the tokens of a text by the model; marks of thoughts become their control tokens, if it has any."""
        tags = (tag for pair in TAGS for tag in pair if tag in text)
        for tag in tags:
            text = text.replace(tag, self._controls.hide(tag))
        return self._text.encode(text)

    def encode_turn(self, text: str) -> TokenIds:
        """Return the tokens of a text by another model, without the stop token."""
        return self.answer_ids(text)[:-1]

    def decode_turn(self, ids: TokenIds) -> str:
        """Return the text of a turn without the white space that the template writes around it."""
        return self.decode(ids).removeprefix(self.lead).removesuffix(self.trail)

    def encode(self, text: str) -> TokenIds:
        """Return the tokens of a text in the middle of a longer one; no text becomes a control token."""
        return self._text.encode(text)

    def text_ids(self, text: str) -> TokenIds:
        """Return the tokens of a text without chat template, from its start."""
        return self.start + self._controls.encode(text)

    def beginning(self, text: str, tokens: int) -> str:
        """Return the longest beginning of a text that has at most this many tokens."""
        return self._text.beginning(text, tokens)

    def decode(self, ids: TokenIds) -> str:
        """Decode without stop tokens; other special tokens stay visible."""
        return self._text.decode([id_ for id_ in ids if id_ not in self.stop_ids])

    def ids_ending(self, strings: Sequence[str]) -> TokenIds:
        """Return the tokens with which a text may complete one of these strings.

        They start with an ending of a string, or contain a whole string.
        """
        ends = tuple({string[start:] for string in strings for start in range(len(string))})
        matches = (text.startswith(ends) or any(string in text for string in strings) for text in self._vocabulary)
        return [id_ for id_, may_end in enumerate(matches) if may_end]

    @cached_property
    def _vocabulary(self) -> list[str]:
        """The text of every token of the vocabulary."""
        return self.tokenizer.batch_decode([[id_] for id_ in range(len(self.tokenizer))])

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the conversation with these tokens as chat messages, up to an open turn of the model."""
        pieces = self._shown
        stops = [self._controls.decode([stop]) for stop in self.stop_ids]
        messages = []
        rest = self._controls.decode(ids).removeprefix(pieces.head)
        while rest:
            content, _, rest = rest.partition(pieces.opening)
            messages.append({"role": "user", "content": self._controls.show(content)})
            content, _, rest = rest.partition(pieces.close)
            for stop in stops:
                content = content.removesuffix(stop)
            if content:
                content = content.removeprefix(pieces.lead).removesuffix(self.trail)
                messages.append({"role": "assistant", "content": self._controls.show(content)})
        return messages

    @cached_property
    def _shown(self) -> Pieces:
        """The template's pieces as they decode from tokens, with control tokens under their hidden names."""
        marks = [f"turn{number}mark" for number in range(3)]
        prompt = self.first_prompt(marks[0])
        head, _, opening = self._controls.decode(prompt).partition(marks[0])
        turn = self._controls.decode(prompt + self.answer_ids(marks[1]) + self.next_prompt(marks[2]))
        lead, _, rest = turn.partition(opening)[2].partition(marks[1])
        close = rest.partition(marks[2])[0].removeprefix(self.trail)
        return Pieces(head, opening, "", lead, close, False)


def _without_thought(own: str) -> list[tuple[str, str]]:
    """Return ways to write an empty thought, each with the white space after it; the template's own comes first.

    Line feeds may merge with what precedes or follows them.
    """
    beginnings = dict.fromkeys((own, own.lstrip(), f"\n{own}")) if own else ("",)
    return [
        (thought, each.removeprefix(thought)) for each in beginnings for thought in dict.fromkeys((each, each.rstrip()))
    ]
