"""Each conversation in a cache of the model's own kind: the general way, for models that do not work in slots.

Passes have one row. Recurrent memory cannot be cut back to an earlier token, so a copy is kept of its state at the end
of each prompt: to score there, or to generate something else.
"""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from exsearch.core.errors import ExSearchError
from exsearch.core.tokens import TokenIds
from exsearch.engine.hf.call import Call
from exsearch.processes import compute

Continuing = Literal["pieces", "tokens", "whole"]
"""How a conversation is extended: all new tokens in one pass, one by one, or everything computed again each time."""

_CACHES = ("past_key_values", "cache_params", "state")
"""Names of the cache among a model's outputs."""


class NoCacheError(ExSearchError):
    """A model returns nothing from which a conversation could be continued."""


@dataclass
class _State:
    """A model's memory of a conversation."""

    tokens: TokenIds = field(default_factory=list)
    cache: Any = None

    def copied(self) -> "_State":
        return _State(list(self.tokens), copy.deepcopy(self.cache))


class OwnMemory:
    """See `exsearch.engine.hf.memory.Memory`."""

    def __init__(self, model: PreTrainedModel, continuing: Continuing) -> None:
        """Take a model with its original attention."""
        self._model, self._continuing = model, continuing
        self._device = next(model.parameters()).device
        parameters = inspect.signature(model.forward).parameters
        self._keeps = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._name = next((name for name in _CACHES if name in parameters), None)
        self._states: dict[int, list[_State]] = {}
        """Per conversation: the state at the end of its last prompt, and the one after what was generated or scored
        since."""

    def prefill(self, call: Call) -> int:
        """See Memory."""
        needed = call.ids[:-1]
        if self._continuing == "whole":
            self._states[call.seat] = [_State(needed)]
            return 0
        states = self._states.get(call.seat, [])
        reusable = [state for state in states if state.tokens == needed[: len(state.tokens)]]
        at_prompt = max(reusable, key=lambda state: len(state.tokens), default=_State())
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
        """Extend a conversation; return the logits after it."""
        state.tokens = state.tokens + ids
        if self._continuing == "whole":
            return _last(self._model(input_ids=self._row(state.tokens), use_cache=False, **self._keeps))
        if self._name is None:
            raise NoCacheError(f"{type(self._model).__name__} does not accept a cache")
        arguments = {} if state.cache is None else {self._name: state.cache}
        output = self._model(input_ids=self._row(ids), use_cache=True, **arguments, **self._keeps)
        state.cache = getattr(output, self._name, None)
        if state.cache is None:
            raise NoCacheError(f"{type(self._model).__name__} does not return a cache")
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
