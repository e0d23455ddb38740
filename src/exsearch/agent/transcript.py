"""A conversation as tokens: grown by appending, with the mask of what the model said."""

from copy import copy

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import ExSearchGrammar
from exsearch.engine.base import TokenIds
from exsearch.retrieval.base import Hit


class Transcript:
    """The growing token sequence of one trajectory."""

    def __init__(self, chat: ChatFormat, grammar: ExSearchGrammar, question: str) -> None:
        """Write the first user turn and hand over to the model."""
        self._chat, self._grammar, self._question = chat, grammar, question
        self.token_ids: TokenIds = []
        self.loss_mask: list[int] = []
        self.logprobs: list[float] = []
        self.shortened_passages = 0
        self.answer_start: int | None = None
        self._given(chat.head + chat.encode(grammar.opening(question)) + chat.open_assistant)

    def _given(self, ids: TokenIds) -> None:
        self.token_ids += ids
        self.loss_mask += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def said(self, ids: TokenIds, logprobs: list[float]) -> None:
        """Append what the model said, its stop token included."""
        self.token_ids += ids
        self.loss_mask += [1] * len(ids)
        self.logprobs += logprobs

    def show(self, hits: list[Hit], budget: int) -> None:
        """Append the passages of a search within `budget` tokens, shortening the texts that are too long.

        Each passage gets the same share; what one leaves over goes to those after it.
        """
        ids = self._chat.encode(self._grammar.search_header())
        left = budget - len(ids)
        for index, hit in enumerate(hits):
            whole = self._chat.encode(self._grammar.passage(hit.rank, hit.passage.title, hit.passage.text))
            share = left // (len(hits) - index)
            self.shortened_passages += len(whole) > share
            ids += whole[:share]
            left -= min(len(whole), share)
        self._given(self._chat.open_user + ids + self._chat.open_assistant)

    def asked_now(self) -> TokenIds:
        """Return the tokens as they would be if the final answer were asked for after the model's last turn."""
        return self.token_ids + self._answer_request()

    def copy(self) -> "Transcript":
        """Return one of its own that goes on from here."""
        twin = copy(self)
        twin.token_ids, twin.loss_mask, twin.logprobs = list(self.token_ids), list(self.loss_mask), list(self.logprobs)
        return twin

    def ask_answer(self) -> None:
        """Append the request for the final answer; what the model says next is the answer."""
        self._given(self._answer_request())
        self.answer_start = len(self.token_ids)

    def _answer_request(self) -> TokenIds:
        request = self._chat.encode(self._grammar.final_request(self._question))
        return self._chat.open_user + request + self._chat.open_assistant

    def passage_budget(self, context: int, turn_tokens: int, steps_left: int, most: int) -> int:
        """Return how many tokens the next passages may take, so that all later turns still fit.

        `steps_left` searches, the next included, share the rest of the context evenly: each needs its passages and
        the model's turn after them; at the end come the request for the answer and the answer. Negative if even
        the turns do not fit.
        """
        frame = len(self._chat.open_user) + len(self._chat.open_assistant)
        rest = context - len(self.token_ids) - len(self._answer_request()) - turn_tokens
        return min(rest // steps_left - frame - turn_tokens, most)
