"""The forward pass of a causal language model in two parts: hidden states, and logits for some of them.

The logits of all tokens would be the largest tensor of training. Logits of a chunk are computed by the model itself,
including whatever it does after its last layer (a scale, a cap, a transform): its forward pass runs again on a body
that returns the hidden states of the chunk.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel


class CausalForward:
    """Runs a model in two parts; finds out once which module is the body."""

    def __init__(self, model: PreTrainedModel, **inputs: Any) -> None:
        """Take a model. A pass of two tokens, with further inputs, finds its body. Raises ValueError if it has none."""
        self.model = model
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._body, self._kind = self._find_body(inputs)

    def states(self, **inputs: Any) -> torch.Tensor:
        """Return the hidden states for the model's inputs, (rows, tokens, hidden size)."""
        outputs: list[torch.Tensor] = []
        with _watched(self._body, lambda output: outputs.append(output.last_hidden_state)):
            self._run(0, **inputs)
        return outputs[-1]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits, (tokens, vocabulary), of hidden states, (tokens, hidden size); differentiable."""
        with _lent(self._body, self._kind(last_hidden_state=states[None])):
            ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
            logits: torch.Tensor = self._run(None, input_ids=ids).logits
        return logits[0]

    def _run(self, keep: int | None, **inputs: Any) -> Any:
        """Run the whole model, with the logits of the tokens `keep`, or of all."""
        device = inputs["input_ids"].device
        selection = {"logits_to_keep": 0 if keep is None else torch.arange(keep, device=device)} if self._keeps else {}
        return self.model(use_cache=False, **inputs, **selection)

    @torch.no_grad()
    def _find_body(self, inputs: dict[str, Any]) -> tuple[torch.nn.Module, type[Any]]:
        """Return the outermost module that returns hidden states and finishes last, and the type of its output."""
        finished: list[tuple[torch.nn.Module, type[Any]]] = []

        def remember(module: torch.nn.Module, inputs: object, output: object) -> None:
            if module is not self.model and isinstance(getattr(output, "last_hidden_state", None), torch.Tensor):
                finished.append((module, type(output)))

        handles = [module.register_forward_hook(remember) for module in self.model.modules()]
        try:
            self._run(0, input_ids=torch.ones(1, 2, dtype=torch.long, device=self.model.device), **inputs)
        finally:
            for handle in handles:
                handle.remove()
        if not finished:
            raise ValueError(f"{type(self.model).__name__} has no part that returns hidden states")
        return finished[-1]


@contextmanager
def _watched(module: torch.nn.Module, see: Any) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, inputs, output: see(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _lent(module: torch.nn.Module, output: object) -> Iterator[None]:
    """Make a module return this output while the context lasts."""
    module.__dict__["forward"] = lambda *ignored, **also: output
    try:
        yield
    finally:
        del module.__dict__["forward"]
