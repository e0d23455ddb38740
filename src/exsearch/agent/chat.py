"""How a model is spoken with: conversations as token ids, grown turn by turn, as its chat template writes them.

A trajectory's tokens must never change afterwards, so each turn is tokenised when it is said and only ever appended. A
turn is tokenised whole, with what the template writes around it, so that its tokens are those that the tokenizer makes
of the whole conversation; a template or tokenizer with which that cannot be so is refused. What texts from outside
(questions, passages, answers) spell stays text, also where it is the spelling of a control token.
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
from exsearch.agent.grammars.known import make_grammar, wording
from exsearch.agent.in_context import InContext
from exsearch.config import AgentConfig
from exsearch.core.errors import UsageError
from exsearch.core.thoughts import TAGS, end_of_thoughts
from exsearch.core.tokens import TokenIds, common_start
from exsearch.engine.checkpoint import stop_tokens

_BEGINNINGS = ("<QUERY> who", "<FACT> the", "Paris", "1987", "(a) one", '"A', "École", "Ünal", "東京", "- x")
"""How turns of a model begin: no token may reach from the prompt into them."""
_TURNS = ("Who? Say it", "Ann Lee!", "Which one?\n[1] Title: A. Content: It was 1987.", "1987.", "And “why”: it?")
"""A conversation to compare tokens on."""
_DAYS = 3653
"""Ten years."""


class ChatFormat:
    """Turns text into token ids as the model's chat template would, turn by turn."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        agent: AgentConfig | None = None,
        stops: Sequence[int] = (),
        grammar: Grammar | None = None,
    ) -> None:
        """Take the template apart, for the day and the grammar of the settings; `stops` end the model's turns, too.

        The grammar is made here if it is not at hand.

        Raises UsageError for a template whose turns do not end in a control token, or with which the tokens of a
        conversation would not be those that the tokenizer makes of the whole.
        """
        self.tokenizer, self.agent, self._stops = tokenizer, agent or AgentConfig(), stops
        added = tokenizer.get_added_vocab()
        self.grammar = grammar or make_grammar(self.agent)
        self.tags = tuple(tag for tag in self.grammar.tags if tag in added)
        """Tags of the grammar that are tokens of their own."""
        self._controls = ControlTokens(tokenizer.backend_tokenizer, self.tags)
        self._text = InContext(self._controls)
        self.start: TokenIds = tokenizer("").input_ids
        """Before a text that is no chat: the token of a beginning, for models that have one."""
        self.template = ChatTemplate(tokenizer, self.agent.date, self.agent.thinking)
        self._take_apart()
        [self.stop_id] = self._controls.encode(self._stop)
        """The token by which the model ends its turn, as the template has it."""
        known = (id_ for id_ in (self.stop_id, tokenizer.eos_token_id, *stops) if isinstance(id_, int))
        self.stop_ids: TokenIds = list(dict.fromkeys(known))
        """All tokens that end it, `stop_id` first."""
        self._require_own_tokens()

    @classmethod
    def load(cls, folder: Path, agent: AgentConfig | None = None, grammar: Grammar | None = None) -> "ChatFormat":
        """Load the tokenizer of a checkpoint folder, and the tokens that it says to stop at."""
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UsageError(f"{folder}: its tokenizer has no fast version (tokenizer.json)")
        return cls(tokenizer, agent, stop_tokens(folder), grammar)

    def unthinking(self) -> "ChatFormat":
        """Return a format of the same model whose prompts begin no thought, for turns that another model writes."""
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
        """White space that the model says between its text and its stop token."""
        self.begins_thought = pieces.begins_thought
        """Whether a prompt ends within a thought, so that the model's turn begins there."""
        whole = pieces.opening
        for opening in dict.fromkeys((whole, whole.rstrip(" "), whole.rstrip())):
            self._opening = hide(opening)
            """All that the model is given before it speaks."""
            marks = self._controls.spelled_in(opening)
            self._context = hide(opening[marks[-1].start() :]) if marks else f"{self._head}x{self._opening}"
            """From which on the prompt's end is tokenised."""
            for thoughtless, blank in _without_thought(pieces.thoughtless):
                self.thoughtless, self._thoughtless = thoughtless, hide(thoughtless)
                """What the model says first if it thinks nothing, such as the end of a thought that it was given."""
                self.lead = blank + whole.removeprefix(opening) + pieces.lead
                """White space that it says before its text."""
                if self._is_seam():
                    return
        raise UsageError("the model's tokenizer makes one token of the end of a prompt and the beginning of an answer")

    def _is_seam(self) -> bool:
        """Return whether no token reaches from a prompt into a turn of the model."""
        if self._text.behind(self._context, self._thoughtless) is None:
            return False
        before = self._context + self._thoughtless
        return all(self._text.behind(before, self.lead + text) is not None for text in _BEGINNINGS)

    def _require_own_tokens(self) -> None:
        """Raise UsageError unless a conversation's tokens are those that the tokenizer makes of it as a whole."""
        first, said, second, again, third = _TURNS
        ids = self.first_prompt(first) + self.turn_ids(said)
        ids += self.next_prompt(second) + self.turn_ids(again) + self.next_prompt(third)
        said, again = (f"{self._thoughtless}{self.lead}{text}{self.trail}" for text in (said, again))
        between = f"{self._stop}{self._following}"
        parts = (self._head, first, self._opening, said, between, second, self._opening, again, between, third)
        whole = self._controls.show("".join(parts) + self._opening)
        if ids != self.tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False).ids:
            raise UsageError("the model's tokenizer makes other tokens of a conversation than of its turns")

    def on(self, day: datetime.date) -> "ChatFormat":
        """Return the format of the same model on another day."""
        return self.by(msgspec.structs.replace(self.agent, date=day), self.grammar)

    def grammar_of(self, agent: AgentConfig) -> Grammar:
        """Return the grammar of settings: the one at hand, unless they name another."""
        return self.grammar if wording(agent) == wording(self.agent) else make_grammar(agent)

    def by(self, agent: AgentConfig, grammar: Grammar) -> "ChatFormat":
        """Return the format of the same model by other settings, whose grammar is this one."""
        return ChatFormat(self.tokenizer, agent, self._stops, grammar)

    @cached_property
    def head(self) -> TokenIds:
        """The tokens with which every conversation begins."""
        one, other = self.first_prompt("Answer"), self.first_prompt("1?")
        return one[: common_start(one, other)]

    def day_of(self, prompt: TokenIds) -> datetime.date | None:
        """Return the day on which this would be the first prompt of a conversation; None if it never would.

        Looks ten years back and ahead. For a template that tells no date it is the day of this format.
        """
        shown = self._controls.decode(prompt)
        if not shown.endswith(self._shown.opening):
            return None
        if prompt[: len(self.head)] == self.head:
            return self.agent.date
        if not self.template.tells_the_date:
            return None
        text = self._controls.show(shown)
        today = datetime.datetime.now(datetime.UTC).date()
        days = (today + datetime.timedelta(days=far) for far in (*range(1, -_DAYS, -1), *range(2, _DAYS)))
        alike = (day for day in days if text.startswith(self.template.head(day)))
        return next((day for day in alike if prompt[: len(head := self.on(day).head)] == head), None)

    def first_prompt(self, text: str) -> TokenIds:
        """Return a conversation that the user begins with a text, up to where the model speaks."""
        return self._controls.encode(f"{self._head}{text}{self._opening}")

    def next_prompt(self, text: str) -> TokenIds:
        """Return what follows the model's stop token: the user's next text, up to where the model speaks."""
        return self._controls.encode(f"{self._stop}{self._following}{text}{self._opening}")[1:]

    def turn_ids(self, text: str) -> TokenIds:
        """Return the tokens with which the model says a text in a turn of its own, its stop token included."""
        return self.without_thought([]) + self.answer_ids(text)

    def answer_ids(self, text: str, behind_thought: bool = False) -> TokenIds:
        """Return the same without its beginning, where that is that the model thinks nothing.

        `behind_thought` means one that the model has said, with the white space that follows it.
        """
        if behind_thought:
            return [*self.encode(text + self.trail), self.stop_id]
        said = f"{self.lead}{text}{self.trail}"
        ids = self._text.behind(self._context + self._thoughtless, said + self._stop)
        return [*self.encode(said), self.stop_id] if ids is None else ids

    def without_thought(self, prompt: TokenIds) -> TokenIds:
        """Return a prompt as it goes on with an answer, if the model thinks nothing before it."""
        return prompt + (self._text.behind(self._context, self._thoughtless) or [])

    def retold_ids(self, text: str) -> tuple[TokenIds, TokenIds]:
        """Return the tokens of a whole turn that was kept as text: those of its thoughts, and those of the rest."""
        end = end_of_thoughts(text)
        if not end:
            return self.without_thought([]), self.answer_ids(text)
        return self.encode_said(text[:end]), [*self.encode(text[end:]), self.stop_id]

    def encode_said(self, text: str) -> TokenIds:
        """Return the tokens of a text that a model has said: the marks of its thoughts are tokens, if it has any."""
        tags = (tag for pair in TAGS for tag in pair if tag in text)
        for tag in tags:
            text = text.replace(tag, self._controls.hide(tag))
        return self._text.encode(text)

    def encode_turn(self, text: str) -> TokenIds:
        """Return the tokens of a text that another model has said, without the stop token."""
        return self.answer_ids(text)[:-1]

    def decode_turn(self, ids: TokenIds) -> str:
        """Return the text of a turn without the white space that the template has around it."""
        return self.decode(ids).removeprefix(self.lead).removesuffix(self.trail)

    def encode(self, text: str) -> TokenIds:
        """Return the tokens of a text in the middle of a longer one; whatever it spells, no control token comes out."""
        return self._text.encode(text)

    def text_ids(self, text: str) -> TokenIds:
        """Return the tokens of a text that is no chat, from its beginning."""
        return self.start + self._controls.encode(text)

    def beginning(self, text: str, tokens: int) -> str:
        """Return as much of a text's beginning as has at most so many tokens."""
        return self._text.beginning(text, tokens)

    def decode(self, ids: TokenIds) -> str:
        """Decode without stop tokens, other special tokens visible."""
        return self._text.decode([id_ for id_ in ids if id_ not in self.stop_ids])

    def ids_ending(self, strings: Sequence[str]) -> TokenIds:
        """Return the tokens by which a text may reach the end of one of these strings.

        They begin with what a string ends with, or contain a whole one.
        """
        ends = tuple({string[start:] for string in strings for start in range(len(string))})
        found = (text.startswith(ends) or any(string in text for string in strings) for text in self._vocabulary)
        return [id_ for id_, may_end in enumerate(found) if may_end]

    @cached_property
    def _vocabulary(self) -> list[str]:
        """The text of every token."""
        return self.tokenizer.batch_decode([[id_] for id_ in range(len(self.tokenizer))])

    def messages(self, ids: TokenIds) -> list[dict[str, str]]:
        """Return the conversation whose tokens these are, up to an open turn of the model."""
        shown = self._shown
        stops = [self._controls.decode([stop]) for stop in self.stop_ids]
        messages = []
        rest = self._controls.decode(ids).removeprefix(shown.head)
        while rest:
            said, _, rest = rest.partition(shown.opening)
            messages.append({"role": "user", "content": self._controls.show(said)})
            said, _, rest = rest.partition(shown.close)
            for stop in stops:
                said = said.removesuffix(stop)
            if said:
                said = said.removeprefix(shown.lead).removesuffix(self.trail)
                messages.append({"role": "assistant", "content": self._controls.show(said)})
        return messages

    @cached_property
    def _shown(self) -> Pieces:
        """What comes back of the template from tokens, with control tokens under their hidden names."""
        marks = [f"turn{number}mark" for number in range(3)]
        prompt = self.first_prompt(marks[0])
        head, _, opening = self._controls.decode(prompt).partition(marks[0])
        turn = self._controls.decode(prompt + self.answer_ids(marks[1]) + self.next_prompt(marks[2]))
        lead, _, rest = turn.partition(opening)[2].partition(marks[1])
        close = rest.partition(marks[2])[0].removeprefix(self.trail)
        return Pieces(head, opening, "", lead, close, False)


def _without_thought(own: str) -> list[tuple[str, str]]:
    """Return how no thought may be said, and white space behind it, the template's own way first.

    Line feeds may join what stands before them or follows.
    """
    begun = dict.fromkeys((own, own.lstrip(), f"\n{own}")) if own else ("",)
    return [(said, each.removeprefix(said)) for each in begun for said in dict.fromkeys((each, each.rstrip()))]
