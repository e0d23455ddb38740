"""What the model says until it hands over: a turn of the chat, or up to a stop string.

Engines know no text, so they cannot look for a string. They stop at every token that may end one; whether it does is
looked up here, and if not, the model goes on from there, with all its keys and values at hand.
"""

from itertools import count

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.core.seeds import derive_seed
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, Sampling, Seat


class TurnReader:
    """How one grammar's turns end, for one model."""

    def __init__(self, chat: ChatFormat, stops: tuple[str, ...]) -> None:
        """Look up the tokens that may end one of the stop strings; without any, turns end as the chat's do."""
        self._chat, self._stops = chat, stops
        self.stop_ids: TokenIds = chat.stop_ids + (chat.ids_ending(stops) if stops else [])

    async def turn(self, seat: Seat, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt up to the end of the turn, at most `sampling.max_new_tokens`. Raises EngineError."""
        if not self._stops:
            return await seat.generate(prompt, sampling, seed)
        said: list[Completion] = []
        ids: TokenIds = []
        for number in count():
            rest = msgspec.structs.replace(sampling, max_new_tokens=sampling.max_new_tokens - len(ids))
            piece = await seat.generate(prompt + ids, rest, derive_seed(seed, number) if number else seed)
            said.append(piece)
            ids = ids + piece.token_ids
            length = self._first_stop(ids)
            ended = length is not None or not {*ids[-1:]}.isdisjoint(self._chat.stop_ids)
            if ended or piece.finish == "length" or len(ids) >= sampling.max_new_tokens:
                break
        return Completion(
            ids[:length],
            [logprob for piece in said for logprob in piece.logprobs][:length],
            "stop" if ended else "length",
            prefilled=sum(piece.prefilled for piece in said),
            cached=sum(piece.cached for piece in said),
            queue_seconds=sum(piece.queue_seconds for piece in said),
            generated=sum(len(piece.token_ids) if piece.generated is None else piece.generated for piece in said),
            exact=all(piece.exact for piece in said),
            scored=all(piece.scored for piece in said),
        )

    def _first_stop(self, ids: TokenIds) -> int | None:
        """Return how many tokens there are up to the first stop string; None without one.

        That is all of them, unless a server did not stop where it was told to.
        """
        if not self._has_stop(ids):
            return None
        return next(length for length in range(1, len(ids) + 1) if self._has_stop(ids[:length]))

    def _has_stop(self, ids: TokenIds) -> bool:
        text = self._chat.decode(ids)
        return any(stop in text for stop in self._stops)
