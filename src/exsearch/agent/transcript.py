"""A conversation as tokens: grown by appending, with the mask of what the model said."""

from copy import copy
from itertools import pairwise

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar, one_line
from exsearch.core.thoughts import without_thoughts
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit


def is_chat(chat: ChatFormat, grammar: Grammar) -> bool:
    """Return whether a grammar is spoken in the model's chat template, and not in plain text."""
    return not grammar.raw and not (grammar.stops and chat.tokenizer.chat_template is None)


class Transcript:
    """The growing token sequence of one trajectory.

    What the user says is a turn of the chat; in a grammar with stop strings it stands within the model's only turn.
    """

    def __init__(self, chat: ChatFormat, grammar: Grammar, question: str) -> None:
        """Write the opening and hand over to the model, unless the grammar searches first."""
        self.chat, self.grammar, self._text, self._question = chat, grammar, question, self._outside(chat, question)
        in_chat = is_chat(chat, grammar)
        first, self._request = grammar.first_prompt(self._question), grammar.final_request(self._question)
        self.first_query = grammar.first_query(question)
        """What is searched for before the model says anything; None if it begins."""
        self.token_ids: TokenIds = []
        self.loss_mask: list[int] = []
        self.logprobs: list[float] = []
        self.shortened_passages = 0
        self.answer_start: int | None = None
        self._begun: str | None = None
        """What the user has said before handing over for the first time."""
        self._within = bool(grammar.stops)
        if not in_chat:
            self._given(chat.text_ids(first))
        elif self.first_query is None:
            self._given(chat.first_prompt(first))
        else:
            self._begun = first

    @staticmethod
    def _outside(chat: ChatFormat, text: str) -> str:
        """Return a text from outside with any tag broken that is a token of its own."""
        for tag in chat.tags:
            text = text.replace(tag, f"{tag[0]} {tag[1:]}")
        return text

    def _given(self, ids: TokenIds) -> None:
        self.token_ids += ids
        self.loss_mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def _user_says(self, text: str) -> TokenIds:
        """Return what follows if the user says a text, in a turn of its own or in the one begun, and hands over."""
        if self._begun is not None:
            return self.chat.first_prompt(f"{self._begun}\n{text}")
        if self._within:
            return self.chat.encode(text)
        was_cut = self.token_ids[-1] != self.chat.stop_id
        return [self.chat.stop_id] * was_cut + self.chat.next_prompt(text)

    def said(self, ids: TokenIds, logprobs: list[float]) -> None:
        """Append what the model said, its stop token included."""
        self.token_ids += ids
        self.loss_mask += [1] * len(ids)
        self.logprobs += logprobs

    def write(self, text: str) -> None:
        """Append a turn that somebody else has written for the model."""
        ids = self.chat.turn_ids(text)
        self.said(ids, [0.0] * len(ids))
        if self.answer_start is not None and self.chat.thoughtless:
            self.answered_behind_thoughts(len(ids))

    @property
    def ended(self) -> bool:
        """Whether what the model said last ends as a turn does; with stop strings, what is read always does."""
        return bool(self.grammar.stops) or self.token_ids[-1] in self.chat.stop_ids

    def show(self, hits: list[Hit], budget: int, ask: bool = False) -> None:
        """Append the passages of a search within `budget` tokens, shortening those that are too long.

        Each passage gets the same share; what one leaves over goes to those after it. Then hand over to the model, or
        `ask` for the answer in the same turn.
        """
        footer = self.grammar.search_footer()
        if ask:
            footer += f"\n{self._request}"
        most = len(self._user_says(footer)) + budget
        left = budget
        while True:
            shown, shortened = self._shown(hits, left)
            ids = self._user_says(shown + footer)
            if len(ids) <= most or left <= 0:
                break
            left -= len(ids) - most  # the whole has more tokens than its parts
        self.shortened_passages += shortened
        self._given(ids)
        self._begun = None
        if ask:
            self.answer_next()

    def _shown(self, hits: list[Hit], budget: int) -> tuple[str, int]:
        """Return the passages of a search within about `budget` tokens, and how many had to be shortened for that."""
        text = self.grammar.search_header()
        left, shortened = budget - self._tokens(text), 0
        for index, hit in enumerate(hits):
            share = max(left // (len(hits) - index), 0)
            passage, length, cut = self._passage(hit, share)
            text, shortened = text + passage, shortened + cut
            left -= length
        return text, shortened

    def _passage(self, hit: Hit, most: int) -> tuple[str, int, bool]:
        """Return a passage within `most` tokens, how many it has, and whether it had to be shortened.

        Of what the form of a passage leaves, the text gets half or more, if it needs that: a longer title is cut.
        """
        title, text = (self._outside(self.chat, part) for part in (hit.passage.title, hit.passage.text))
        whole = self.grammar.passage(hit.rank, title, text)
        length = self._tokens(whole)
        if length <= most:
            return whole, length, False
        form, head = (self._tokens(self.grammar.passage(hit.rank, shown, "")) for shown in ("", title))
        left = max(most - form, 0)
        of_title = max(left // 2, left - (length - head))
        if head - form > of_title:
            title = self._longest_beginning(hit.rank, one_line(title), form + of_title)
            whole = self.grammar.passage(hit.rank, title, text)
            if (length := self._tokens(whole)) <= most:
                return whole, length, True
        cut, length = self._cut(whole, most)
        return cut, length, True

    def _cut(self, passage: str, most: int) -> tuple[str, int]:
        """Return a passage cut to `most` tokens, with its end in the place of what is cut off, and its tokens."""
        end = self.grammar.passage_end
        body = passage.removesuffix(end)
        for tokens in range(most - self._tokens(end), 0, -1):
            cut = self.chat.beginning(body, tokens) + end
            if (length := self._tokens(cut)) <= most:
                return cut, length
        end = self.chat.beginning(end, max(most, 0))
        return end, self._tokens(end)

    def _longest_beginning(self, rank: int, title: str, most: int) -> str:
        """Return as much of a title as a passage with it, and without a text, has room for in `most` tokens."""
        fits, too_long = 0, len(title)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self._tokens(self.grammar.passage(rank, title[:middle], "")) <= most:
                fits = middle
            else:
                too_long = middle
        return title[:fits]

    def _tokens(self, text: str) -> int:
        return len(self.chat.encode(text))

    def asked_now(self) -> TokenIds:
        """Return the tokens as they would be if the model had to answer after its last turn, without a thought."""
        asked = self.token_ids + self._answer_request()
        return asked if self._within else self.chat.without_thought(asked)

    def answer_ids(self, text: str) -> TokenIds:
        """Return the tokens with which the model would give this answer."""
        said = self.grammar.answer(self._outside(self.chat, text))
        if self._within:
            return self.chat.encode(said)
        return self.chat.answer_ids(said, bool(self.answer_start and self.loss_mask[self.answer_start - 1]))

    def copy(self) -> "Transcript":
        """Return one of its own that goes on from here."""
        twin = copy(self)
        twin.token_ids, twin.loss_mask, twin.logprobs = list(self.token_ids), list(self.loss_mask), list(self.logprobs)
        return twin

    def ask_answer(self) -> None:
        """Append the request for the final answer; what the model says next is the answer."""
        self._given(self._answer_request())
        self.answer_next()

    def answer_next(self) -> None:
        """Note that what the model says next is the answer."""
        self.answer_start = len(self.token_ids)

    def answered_within(self, turn: int) -> None:
        """Find where the answer begins that the model gave unasked, in the `turn` tokens that it said last.

        It begins behind the token that completes what would otherwise ask for it.
        """
        first, mark = len(self.token_ids) - turn, self._request
        self.answer_start = next(
            end
            for end in range(first + 1, len(self.token_ids) + 1)
            if mark in self.chat.decode(self.token_ids[first:end])
        )

    def answered_behind_thoughts(self, turn: int) -> None:
        """Find where the answer begins in the `turn` tokens that the model said last: behind its thoughts."""
        first, last = len(self.token_ids) - turn, len(self.token_ids)
        whole = without_thoughts(self.chat.decode(self.token_ids[first:]), self.chat.begins_thought) or ""
        begins = (end for end in range(first, last) if self.chat.decode(self.token_ids[end:]).strip() == whole.strip())
        self.answer_start = max(begins, default=first)

    def _answer_request(self) -> TokenIds:
        return self._user_says(self._request)

    @property
    def length_asked(self) -> int:
        """How many tokens it would have if the answer were asked for now."""
        return len(self.token_ids) + len(self._answer_request())

    @property
    def before_answer(self) -> TokenIds:
        """The tokens behind which the answer stands: all as long as there is none."""
        return self.token_ids[: self.answer_start]

    def turns(self) -> list[tuple[int, int]]:
        """Return where each run of tokens begins and ends that the model said."""
        edges = [place for place, (a, b) in enumerate(pairwise([0, *self.loss_mask, 0])) if a != b]
        return list(zip(edges[::2], edges[1::2], strict=True))

    def at_first_search(self) -> "Transcript":
        """Return it as it was while its first search was under way."""
        earlier = Transcript(self.chat, self.grammar, self._text)
        if self.first_query is None:
            start, stop = self.turns()[0]
            earlier.said(self.token_ids[start:stop], self.logprobs[start:stop])
        return earlier
