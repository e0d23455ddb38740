"""Decides how many tokens of the context the passages of each search may take."""

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig

MIN_PASSAGE_TOKENS = 16
"""Minimum number of tokens per passage for a search to be worth showing; below it, the context counts as full."""


class Budget:
    """Divides a context among the searches of a trajectory, so that all later turns still fit."""

    def __init__(self, chat: ChatFormat, grammar: Grammar, config: AgentConfig, context: int) -> None:
        """Plan for `context` tokens, with the searches and the tokens per turn and per passage of the settings."""
        self.max_steps, self.passages = config.max_steps, config.passages
        searches = grammar.answers_after(config.max_steps)
        self.last_search = None if searches is None else min(searches, config.max_steps)
        """Number of searches after which the answer is requested, whatever the model wants; None for no limit."""
        footer = grammar.search_footer()
        frame = len(chat.encode(footer) if grammar.stops else chat.next_prompt(footer))
        frame += grammar.forgiving  # the stop token after a truncated turn
        self._turns = frame + config.turn_tokens
        """Tokens per search besides its passages: the grammar's text around them, and the model's next turn."""
        self._maximum = config.passages * config.passage_tokens
        self._rest = context - config.turn_tokens
        """Tokens available before the answer itself."""
        needed = config.passages * MIN_PASSAGE_TOKENS
        self.longest_opening = (
            self._rest - self._searches_left(0) * (needed + self._turns) if needed <= self._maximum else -1
        )
        """Maximum number of tokens of an opening, with the request for the answer, that leaves room for all searches.
        """

    def _searches_left(self, searched: int) -> int:
        searches = self.max_steps if self.last_search is None else self.last_search
        return max(searches - searched, 1)

    def for_search(self, transcript: Transcript, searches_left: int) -> int:
        """Return the number of tokens that the passages of the next search may take together.

        `searches_left` searches, including the next, divide the rest of the context evenly: each needs its passages and
        the model's turn after them, and the end needs the request for the answer and the answer. Negative if not even
        the turns fit.
        """
        rest = self._rest - transcript.length_asked
        return min(rest // searches_left - self._turns, self._maximum)

    def per_passage(self, transcript: Transcript, searched: int) -> int:
        """Return the number of tokens per passage for the next search, after `searched` searches."""
        return self.for_search(transcript, self._searches_left(searched)) // self.passages
