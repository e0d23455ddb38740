"""Softmax attention with features beyond a mask: caps on scores, and sinks.

An argument of a model's attention that is unknown here is an error: if it were ignored, the model's output would
silently change.
"""

from collections.abc import Mapping

import torch

from exsearch.core.errors import ExSearchError

BLOCK = 512
"""Number of keys per step. With whole steps, a query's sum has the same order however many keys follow that it does not
see."""

_HARMLESS = frozenset(
    [
        "position_ids",
        "position_embeddings",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
    ]
)
"""Arguments that attention ignores because they are meant for other code."""


class UnknownArgumentError(ExSearchError):
    """A model's attention needs a feature that is not implemented here."""


def require_known(module: torch.nn.Module, others: Mapping[str, object]) -> None:
    """Raise UnknownArgumentError if a model's attention needs a feature that is not implemented."""
    unknown = sorted(
        name for name, value in others.items() if value is not None and value is not False and name not in _HARMLESS
    )
    if unknown:
        raise UnknownArgumentError(f"{type(module).__name__} has unknown attention arguments: {', '.join(unknown)}")


def attend_in_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Return attention, (rows, heads, new tokens, width of a value), with capped scores and sinks.

    `query` has shape (rows, heads, new tokens, width), `key` and `value` (rows, key heads, seen tokens, width). `mask`
    is added to the scores: (rows or 1, 1, new tokens, seen tokens). A sink, one per head, is the score of a key without
    a value.
    """
    rows, heads, new, width = query.shape
    shared = key.shape[1]
    shape = (rows, shared, heads // shared, new)
    folded = query.reshape(rows, shared, -1, width)
    scale = width**-0.5 if scaling is None else scaling
    if sinks is None:
        top, total = query.new_full((*shape, 1), -torch.inf, dtype=torch.float32), query.new_zeros((*shape, 1)).float()
    else:
        top = sinks.float().reshape(1, shared, -1, 1, 1).expand(*shape, 1)
        total = torch.ones_like(top)
    mixed = query.new_zeros((*shape, value.shape[-1]), dtype=torch.float32)
    for start in range(0, key.shape[2], BLOCK):
        part = slice(start, start + BLOCK)
        scores = (folded @ key[:, :, part].transpose(2, 3)).float() * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.view(*shape, -1) + mask[:, :, None, :, part]
        peak = torch.maximum(top, scores.amax(dim=-1, keepdim=True)).detach()
        level = torch.where(peak == -torch.inf, 0.0, peak)  # no key is visible yet
        weights, rescale = (scores - level).exp(), (top - level).exp()
        total = total * rescale + weights.sum(dim=-1, keepdim=True)
        weighted = weights.to(value.dtype).reshape(rows, shared, -1, weights.shape[-1]) @ value[:, :, part]
        mixed = mixed * rescale + weighted.view_as(mixed)
        top = peak
    return (mixed / total).to(value.dtype).reshape(rows, heads, new, -1)
