"""A conversation as tokens, extended by appending, with a mask of what the model wrote."""

from copy import copy
from itertools import pairwise

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar, one_line
from exsearch.core.thoughts import without_thoughts
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit


def is_chat(chat: ChatFormat, grammar: Grammar) -> bool:
    """Return whether a grammar uses the model's chat template, rather than plain text."""
    return not grammar.raw and not (grammar.stops and chat.tokenizer.chat_template is None)


class Transcript:
    """The growing token sequence of one trajectory.

    What the user says is a turn of the chat; in a grammar with stop strings it stands within the model's only turn.
    """

    def __init__(self, chat: ChatFormat, grammar: Grammar, question: str) -> None:
        """Append the opening, and let the model write, unless the grammar searches first."""
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
        """The user's text before the model writes for the first time."""
        self._within = bool(grammar.stops)
        if not in_chat:
            self._given(chat.text_ids(first))
        elif self.first_query is None:
            self._given(chat.first_prompt(first))
        else:
            self._begun = first

    @staticmethod
    def _outside(chat: ChatFormat, text: str) -> str:
        """Return a text from outside in which any tag of the grammar that is a single token is broken up."""
        for tag in chat.tags:
            text = text.replace(tag, f"{tag[0]} {tag[1:]}")
        return text

    def _given(self, ids: TokenIds) -> None:
        self.token_ids += ids
        self.loss_mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def _user_says(self, text: str) -> TokenIds:
        """Return the tokens by which the user says a text, in a turn of its own or in the current one, and ends its
        turn."""
        if self._begun is not None:
            return self.chat.first_prompt(f"{self._begun}\n{text}")
        if self._within:
            return self.chat.encode(text)
        was_cut = self.token_ids[-1] != self.chat.stop_id
        return [self.chat.stop_id] * was_cut + self.chat.next_prompt(text)

    def append_turn(self, ids: TokenIds, logprobs: list[float]) -> None:
        """Append what the model wrote, including its stop token."""
        self.token_ids += ids
        self.loss_mask += [1] * len(ids)
        self.logprobs += logprobs

    def write(self, text: str) -> None:
        """Append a turn that somebody else wrote for the model."""
        ids = self.chat.turn_ids(text)
        self.append_turn(ids, [0.0] * len(ids))
        if self.answer_start is not None and self.chat.thoughtless:
            self.answered_after_thoughts(len(ids))

    @property
    def ended(self) -> bool:
        """Whether the model's last tokens end its turn; always true with stop strings, up to which turns are read."""
        return bool(self.grammar.stops) or self.token_ids[-1] in self.chat.stop_ids

    def show(self, hits: list[Hit], budget: int, ask: bool = False) -> None:
        """Append the passages of a search within `budget` tokens, shortening those that are too long.

        The passages get equal shares; what one does not use goes to those after it. Then let the model write, or `ask`
        for the answer in the same turn.
        """
        footer = self.grammar.search_footer()
        if ask:
            footer += f"\n{self._request}"
        limit = len(self._user_says(footer)) + budget
        available = budget
        while True:
            passages, shortened = self._shown(hits, available)
            ids = self._user_says(passages + footer)
            if len(ids) <= limit or available <= 0:
                break
            available -= len(ids) - limit  # joined text may have more tokens than its parts
        self.shortened_passages += shortened
        self._given(ids)
        self._begun = None
        if ask:
            self.answer_next()

    def _shown(self, hits: list[Hit], budget: int) -> tuple[str, int]:
        """Return the passages of a search within about `budget` tokens, and how many were shortened for it."""
        text = self.grammar.search_header()
        available, shortened = budget - self._tokens(text), 0
        for index, hit in enumerate(hits):
            share = max(available // (len(hits) - index), 0)
            passage, length, was_cut = self._passage(hit, share)
            text, shortened = text + passage, shortened + was_cut
            available -= length
        return text, shortened

    def _passage(self, hit: Hit, limit: int) -> tuple[str, int, bool]:
        """Return a passage within `limit` tokens, its number of tokens, and whether it was shortened.

        Of the tokens for title and text, the text gets at least half, if it needs them: a longer title is shortened.
        """
        title, text = (self._outside(self.chat, part) for part in (hit.passage.title, hit.passage.text))
        whole = self.grammar.passage(hit.rank, title, text)
        length = self._tokens(whole)
        if length <= limit:
            return whole, length, False
        form, head = (self._tokens(self.grammar.passage(hit.rank, title_shown, "")) for title_shown in ("", title))
        available = max(limit - form, 0)
        of_title = max(available // 2, available - (length - head))
        if head - form > of_title:
            title = self._longest_beginning(hit.rank, one_line(title), form + of_title)
            whole = self.grammar.passage(hit.rank, title, text)
            if (length := self._tokens(whole)) <= limit:
                return whole, length, True
        shortened, length = self._cut(whole, limit)
        return shortened, length, True

    def _cut(self, passage: str, limit: int) -> tuple[str, int]:
        """Return a passage cut to `limit` tokens, closed by the grammar's `passage_end`, and its length in tokens."""
        end = self.grammar.passage_end
        body = passage.removesuffix(end)
        for tokens in range(limit - self._tokens(end), 0, -1):
            shortened = self.chat.beginning(body, tokens) + end
            if (length := self._tokens(shortened)) <= limit:
                return shortened, length
        end = self.chat.beginning(end, max(limit, 0))
        return end, self._tokens(end)

    def _longest_beginning(self, rank: int, title: str, limit: int) -> str:
        """Return the longest beginning of a title with which a passage without text has at most `limit` tokens."""
        fits, too_long = 0, len(title)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self._tokens(self.grammar.passage(rank, title[:middle], "")) <= limit:
                fits = middle
            else:
                too_long = middle
        return title[:fits]

    def _tokens(self, text: str) -> int:
        return len(self.chat.encode(text))

    def answer_prompt(self) -> TokenIds:
        """Return the tokens as they would be if the answer were requested now, without a thought before it."""
        tokens = self.token_ids + self._answer_request()
        return tokens if self._within else self.chat.without_thought(tokens)

    def answer_ids(self, text: str) -> TokenIds:
        """Return the tokens with which the model would give this answer."""
        turn = self.grammar.answer(self._outside(self.chat, text))
        if self._within:
            return self.chat.encode(turn)
        return self.chat.answer_ids(turn, bool(self.answer_start and self.loss_mask[self.answer_start - 1]))

    def copy(self) -> "Transcript":
        """Return an independent copy that continues from here."""
        twin = copy(self)
        twin.token_ids, twin.loss_mask, twin.logprobs = list(self.token_ids), list(self.loss_mask), list(self.logprobs)
        return twin

    def ask_answer(self) -> None:
        """Append the request for the final answer; the model's next turn is the answer."""
        self._given(self._answer_request())
        self.answer_next()

    def answer_next(self) -> None:
        """Note that the model's next turn is the answer."""
        self.answer_start = len(self.token_ids)

    def answered_within(self, turn: int) -> None:
        """Find the start of an answer that the model gave without a request, in its last `turn` tokens.

        It starts after the token that completes what would otherwise request it.
        """
        first, mark = len(self.token_ids) - turn, self._request
        self.answer_start = next(
            end
            for end in range(first + 1, len(self.token_ids) + 1)
            if mark in self.chat.decode(self.token_ids[first:end])
        )

    def answered_after_thoughts(self, turn: int) -> None:
        """Find the start of the answer in the model's last `turn` tokens: after its thoughts."""
        first, last = len(self.token_ids) - turn, len(self.token_ids)
        whole = without_thoughts(self.chat.decode(self.token_ids[first:]), self.chat.begins_thought) or ""
        begins = (end for end in range(first, last) if self.chat.decode(self.token_ids[end:]).strip() == whole.strip())
        self.answer_start = max(begins, default=first)

    def _answer_request(self) -> TokenIds:
        return self._user_says(self._request)

    @property
    def length_asked(self) -> int:
        """The number of tokens if the answer were requested now."""
        return len(self.token_ids) + len(self._answer_request())

    @property
    def before_answer(self) -> TokenIds:
        """The tokens before the answer; all tokens if there is none yet."""
        return self.token_ids[: self.answer_start]

    def turns(self) -> list[tuple[int, int]]:
        """Return start and end of each run of tokens that the model wrote."""
        edges = [place for place, (a, b) in enumerate(pairwise([0, *self.loss_mask, 0])) if a != b]
        return list(zip(edges[::2], edges[1::2], strict=True))

    def at_first_search(self) -> "Transcript":
        """Return the transcript as it was during its first search."""
        earlier = Transcript(self.chat, self.grammar, self._text)
        if self.first_query is None:
            start, stop = self.turns()[0]
            earlier.append_turn(self.token_ids[start:stop], self.logprobs[start:stop])
        return earlier
