"""Each conversation in a cache of the model's own kind: the general way, for models that slots are wrong for.

Passes have one row. What a model remembers of a recurrent kind cannot be cut back to an earlier token, so a copy is
kept of how it was at the end of each prompt: to score there, or to say something else.
"""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from exsearch.core.errors import ExSearchError
from exsearch.core.tokens import TokenIds
from exsearch.engine.call import Call
from exsearch.processes import compute

Continuing = Literal["pieces", "tokens", "whole"]
"""How more of a conversation is computed: all new tokens in one pass, one by one, or everything anew each time."""

_CACHES = ("past_key_values", "cache_params", "state")
"""What models call their memory."""


class NoCacheError(ExSearchError):
    """A model hands out nothing that a conversation could be continued from."""


@dataclass
class _State:
    """What a model remembers of a conversation."""

    tokens: TokenIds = field(default_factory=list)
    cache: Any = None

    def copied(self) -> "_State":
        return _State(list(self.tokens), copy.deepcopy(self.cache))


class OwnMemory:
    """See `exsearch.engine.memory.Memory`."""

    def __init__(self, model: PreTrainedModel, continuing: Continuing) -> None:
        """Take a model with the attention that it came with."""
        self._model, self._continuing = model, continuing
        self._device = next(model.parameters()).device
        parameters = inspect.signature(model.forward).parameters
        self._keeps = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._name = next((name for name in _CACHES if name in parameters), None)
        self._states: dict[int, list[_State]] = {}
        """Of each conversation: at the end of its last prompt, and of what was said or scored behind it."""

    def prefill(self, call: Call) -> int:
        """See Memory."""
        needed = call.ids[:-1]
        if self._continuing == "whole":
            self._states[call.seat] = [_State(needed)]
            return 0
        states = self._states.get(call.seat, [])
        held = [state for state in states if state.tokens == needed[: len(state.tokens)]]
        at_prompt = max(held, key=lambda state: len(state.tokens), default=_State())
        cached = len(at_prompt.tokens)
        if new := needed[cached:]:
            at_prompt = at_prompt.copied()
            pieces = [new] if self._continuing == "pieces" or not cached else [[token] for token in new]
            for piece in pieces:
                compute.check()
                self._feed(at_prompt, piece)
        self._states[call.seat] = [at_prompt, at_prompt.copied()]
        return cached

    def advance(self, calls: list[Call]) -> torch.Tensor:
        """See Memory."""
        return torch.stack([self._feed(self._states[call.seat][-1], [call.next_token]) for call in calls])

    def _feed(self, state: _State, ids: TokenIds) -> torch.Tensor:
        """Compute more of a conversation; return the logits behind it."""
        state.tokens = state.tokens + ids
        if self._continuing == "whole":
            return _last(self._model(input_ids=self._row(state.tokens), use_cache=False, **self._keeps))
        if self._name is None:
            raise NoCacheError(f"{type(self._model).__name__} takes no cache")
        given = {} if state.cache is None else {self._name: state.cache}
        output = self._model(input_ids=self._row(ids), use_cache=True, **given, **self._keeps)
        state.cache = getattr(output, self._name, None)
        if state.cache is None:
            raise NoCacheError(f"{type(self._model).__name__} hands out no cache")
        return _last(output)

    def _row(self, ids: TokenIds) -> torch.Tensor:
        return torch.tensor([ids], device=self._device)

    def release(self, seat: int) -> None:
        """See Memory."""
        self._states.pop(seat, None)

    def forget(self) -> None:
        """See Memory."""

    def clear(self) -> None:
        """See Memory."""
        self._states.clear()


def _last(output: Any) -> torch.Tensor:
    logits: torch.Tensor = output.logits[0, -1].float()
    return logits
