"""A conversation as tokens: grown by appending, with the mask of what the model said."""

from copy import copy

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar, one_line
from exsearch.engine.base import TokenIds
from exsearch.retrieval.base import Hit


class Transcript:
    """The growing token sequence of one trajectory.

    What the user says is a turn of the chat; in a grammar with stop strings it stands within the model's only turn.
    """

    def __init__(self, chat: ChatFormat, grammar: Grammar, question: str) -> None:
        """Write the opening and hand over to the model, unless the grammar searches first."""
        self._chat, self.grammar, self._question = chat, grammar, question
        self.token_ids: TokenIds = []
        self.loss_mask: list[int] = []
        self.logprobs: list[float] = []
        self.shortened_passages = 0
        self.answer_start: int | None = None
        within = bool(grammar.stops)
        self._open_user = [] if within else chat.open_user
        self._open_assistant = [] if within else chat.open_assistant
        self._users_turn = grammar.first_query(question) is not None
        """Whether the user has not handed over yet."""
        raw = grammar.raw or (within and chat.tokenizer.chat_template is None)
        self._given(chat.start if raw else chat.head)
        self._given(chat.encode(grammar.first_prompt(question)))
        if not self._users_turn and not raw:
            self._given(chat.open_assistant)

    def _given(self, ids: TokenIds) -> None:
        self.token_ids += ids
        self.loss_mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def _from_user(self, ids: TokenIds) -> TokenIds:
        """Return what the user says next, in the turn that is open or in one of its own."""
        if self._users_turn:
            return self._chat.encode("\n") + ids
        was_cut = self._open_user and self.token_ids[-1] != self._chat.stop_id
        return [self._chat.stop_id] * bool(was_cut) + self._open_user + ids

    def said(self, ids: TokenIds, logprobs: list[float]) -> None:
        """Append what the model said, its stop token included."""
        self.token_ids += ids
        self.loss_mask += [1] * len(ids)
        self.logprobs += logprobs

    def show(self, hits: list[Hit], budget: int, ask: bool = False) -> None:
        """Append the passages of a search within `budget` tokens, shortening those that are too long.

        Each passage gets the same share; what one leaves over goes to those after it. Then hand over to the model, or
        `ask` for the answer in the same turn.
        """
        ids = self._chat.encode(self.grammar.search_header())
        left = budget - len(ids)
        for index, hit in enumerate(hits):
            share = max(left // (len(hits) - index), 0)
            shown, shortened = self._passage(hit, share)
            self.shortened_passages += shortened
            ids += shown
            left -= len(shown)
        self._given(self._from_user(ids + self._chat.encode(self.grammar.search_footer())))
        self._users_turn = ask
        if ask:
            self.ask_answer()
        else:
            self._given(self._open_assistant)

    def _passage(self, hit: Hit, most: int) -> tuple[TokenIds, bool]:
        """Return a passage within `most` tokens, and whether it had to be shortened.

        Of what the form of a passage leaves, the text gets half or more, if it needs that: a longer title is cut.
        """
        title, text = hit.passage.title, hit.passage.text
        whole = self._tokens(hit.rank, title, text)
        if len(whole) <= most:
            return whole, False
        end = self._chat.encode(self.grammar.passage_end)
        form, head = len(self._tokens(hit.rank, "", "")), len(self._tokens(hit.rank, title, ""))
        left = max(most - form, 0)
        of_title = max(left // 2, left - (len(whole) - head))
        if head - form > of_title:
            title = self._longest_beginning(hit.rank, one_line(title), form + of_title)
            whole = self._tokens(hit.rank, title, text)
            if len(whole) <= most:
                return whole, True
        if end:  # which may be one token with the last of the text
            written = self.grammar.passage(hit.rank, title, text)
            whole = self._chat.encode(written.removesuffix(self.grammar.passage_end))
        return (whole[: max(most - len(end), 0)] + end)[:most], True

    def _longest_beginning(self, rank: int, title: str, most: int) -> str:
        """Return as much of a title as a passage with it, and without a text, has room for in `most` tokens."""
        fits, too_long = 0, len(title)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if len(self._tokens(rank, title[:middle], "")) <= most:
                fits = middle
            else:
                too_long = middle
        return title[:fits]

    def _tokens(self, rank: int, title: str, text: str) -> TokenIds:
        return self._chat.encode(self.grammar.passage(rank, title, text))

    def asked_now(self) -> TokenIds:
        """Return the tokens as they would be if the final answer were asked for after the model's last turn."""
        return self.token_ids + self._answer_request()

    def answer_ids(self, text: str) -> TokenIds:
        """Return the tokens with which the model would give this answer."""
        ids = self._chat.encode(self.grammar.answer(text))
        return ids if self.grammar.stops else [*ids, self._chat.stop_id]

    def copy(self) -> "Transcript":
        """Return one of its own that goes on from here."""
        twin = copy(self)
        twin.token_ids, twin.loss_mask, twin.logprobs = list(self.token_ids), list(self.loss_mask), list(self.logprobs)
        return twin

    def ask_answer(self) -> None:
        """Append the request for the final answer; what the model says next is the answer."""
        self._given(self._answer_request())
        self._users_turn = False
        self.answer_next()

    def answer_next(self) -> None:
        """Note that what the model says next is the answer."""
        self.answer_start = len(self.token_ids)

    def answered_within(self, turn: int) -> None:
        """Find where the answer begins that the model gave unasked, in the `turn` tokens that it said last.

        It begins behind the token that completes what would otherwise ask for it.
        """
        first, mark = len(self.token_ids) - turn, self.grammar.final_request(self._question)
        self.answer_start = next(
            end
            for end in range(first + 1, len(self.token_ids) + 1)
            if mark in self._chat.decode(self.token_ids[first:end])
        )

    def _answer_request(self) -> TokenIds:
        request = self._chat.encode(self.grammar.final_request(self._question))
        return self._from_user(request) + self._open_assistant

    def passage_budget(self, context: int, turn_tokens: int, steps_left: int, most: int) -> int:
        """Return how many tokens the next passages may take, so that all later turns still fit.

        `steps_left` searches, the next included, share the rest of the context evenly: each needs its passages and
        the model's turn after them; at the end come the request for the answer and the answer. Negative if even
        the turns do not fit.
        """
        frame = len(self._open_user) + len(self._open_assistant) + len(self._chat.encode(self.grammar.search_footer()))
        frame += self.grammar.forgiving  # the stop token behind a turn that was cut
        rest = context - len(self.token_ids) - len(self._answer_request()) - turn_tokens
        return min(rest // steps_left - frame - turn_tokens, most)
