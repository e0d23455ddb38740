"""How many tokens of the context the passages of a search may take."""

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig

MIN_PASSAGE_TOKENS = 16
"""A search whose passages would get fewer tokens each is not worth showing: the context is full."""


class Budget:
    """Shares a context among the searches of a trajectory, so that all later turns still fit."""

    def __init__(self, chat: ChatFormat, grammar: Grammar, config: AgentConfig, context: int) -> None:
        """Plan for `context` tokens, with the searches and the tokens per turn and passage of the settings."""
        self.max_steps, self.passages = config.max_steps, config.passages
        asked = grammar.answers_after(config.max_steps)
        self.last_search = None if asked is None else min(asked, config.max_steps)
        """After this many searches the answer is asked for, whatever the model wants; None: never."""
        footer = grammar.search_footer()
        frame = len(chat.encode(footer) if grammar.stops else chat.next_prompt(footer))
        frame += grammar.forgiving  # the stop token behind a turn that was cut
        self._turns = frame + config.turn_tokens
        """Tokens of a search beside its passages: what frames them, and the model's turn after them."""
        self._maximum = config.passages * config.passage_tokens
        self._rest = context - config.turn_tokens
        """Tokens before the answer itself."""
        needed = config.passages * MIN_PASSAGE_TOKENS
        self.longest_opening = (
            self._rest - self._searches_left(0) * (needed + self._turns) if needed <= self._maximum else -1
        )
        """Tokens of an opening, with the request for the answer, behind which all searches still have room."""

    def _searches_left(self, searched: int) -> int:
        searches = self.max_steps if self.last_search is None else self.last_search
        return max(searches - searched, 1)

    def for_search(self, transcript: Transcript, searches_left: int) -> int:
        """Return how many tokens the passages of the next search may take together.

        `searches_left` searches, the next included, share the rest of the context evenly: each needs its passages and
        the model's turn after them; at the end come the request for the answer and the answer. Negative if even
        the turns do not fit.
        """
        rest = self._rest - transcript.length_asked
        return min(rest // searches_left - self._turns, self._maximum)

    def per_passage(self, transcript: Transcript, searched: int) -> int:
        """Return how many tokens each passage of the next search may take, after `searched` of them."""
        return self.for_search(transcript, self._searches_left(searched)) // self.passages
