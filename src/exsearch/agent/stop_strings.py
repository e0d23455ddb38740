"""Reads a turn of the model: up to the end of its chat turn, or up to a stop string.

Engines know no text, so they cannot look for a string. They stop at every token that may complete one. Whether it does
is checked here, and if not, the model continues from there, with its keys and values still cached.
"""

from itertools import count

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.core.seeds import derive_seed
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, Sampling, Seat


class TurnReader:
    """Finds the end of the model's turns in one grammar."""

    def __init__(self, chat: ChatFormat, stops: tuple[str, ...]) -> None:
        """Look up the tokens that may complete a stop string; without stop strings, turns end as the chat's do."""
        self._chat, self._stops = chat, stops
        self.stop_ids: TokenIds = chat.stop_ids + (chat.ids_ending(stops) if stops else [])

    async def turn(self, seat: Seat, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt to the end of the turn, at most `sampling.max_new_tokens` tokens. Raises EngineError."""
        if not self._stops:
            return await seat.generate(prompt, sampling, seed)
        parts: list[Completion] = []
        ids: TokenIds = []
        for number in count():
            rest = msgspec.structs.replace(sampling, max_new_tokens=sampling.max_new_tokens - len(ids))
            piece = await seat.generate(prompt + ids, rest, derive_seed(seed, number) if number else seed)
            parts.append(piece)
            ids = ids + piece.token_ids
            length = self._first_stop(ids)
            ended = length is not None or not {*ids[-1:]}.isdisjoint(self._chat.stop_ids)
            if ended or piece.finish == "length" or len(ids) >= sampling.max_new_tokens:
                break
        return Completion(
            ids[:length],
            [logprob for piece in parts for logprob in piece.logprobs][:length],
            "stop" if ended else "length",
            prefilled=sum(piece.prefilled for piece in parts),
            cached=sum(piece.cached for piece in parts),
            queue_seconds=sum(piece.queue_seconds for piece in parts),
            generated=sum(len(piece.token_ids) if piece.generated is None else piece.generated for piece in parts),
            exact=all(piece.exact for piece in parts),
            scored=all(piece.scored for piece in parts),
        )

    def _first_stop(self, ids: TokenIds) -> int | None:
        """Return the number of tokens up to the first stop string, inclusive; None without one.

        It is all tokens, unless a server did not stop where it was told to.
        """
        if not self._has_stop(ids):
            return None
        return next(length for length in range(1, len(ids) + 1) if self._has_stop(ids[:length]))

    def _has_stop(self, ids: TokenIds) -> bool:
        text = self._chat.decode(ids)
        return any(stop in text for stop in self._stops)
