"""Draws tokens from logits so that a draw depends only on its own seed and distribution."""

import numpy as np
import torch

_BLOCK = 256


def uniforms(seeds: list[int], count: int) -> torch.Tensor:
    """Return `count` uniform numbers in [0, 1) per seed, one per token to draw, with shape (seeds, count)."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution at `uniform`; greedy at temperature 0.

    `logits` has shape (rows, vocabulary), `uniform` (rows,). Returns token ids of shape (rows,).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    return _invert(probabilities, uniform.to(probabilities.device))


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return, for each row, the token at which the cumulative probability exceeds `uniform`.

    First finds the block of tokens that contains it, then the token: a cumulative sum over the whole vocabulary would
    cost more than the softmax.
    """
    rows, vocabulary = probabilities.shape
    blocks = torch.nn.functional.pad(probabilities, (0, -vocabulary % _BLOCK)).view(rows, -1, _BLOCK)
    up_to = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    # The sum may differ from 1 by rounding: compare with the sum itself, so that no impossible token is drawn.
    threshold = (uniform * up_to[:, -1]).unsqueeze(1)
    block = torch.searchsorted(up_to, threshold, right=True).clamp(max=up_to.shape[1] - 1)
    before = torch.where(block > 0, up_to.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows, device=block.device), block.squeeze(1)].double().cumsum(dim=-1)
    offset = torch.searchsorted(inside, threshold - before, right=True)
    # rounding may leave the threshold at the block's end; then its last possible token is drawn
    last = inside.argmax(dim=-1, keepdim=True)
    return (block * _BLOCK + torch.minimum(offset, last)).squeeze(1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the most likely tokens that together reach `top_p`."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    beyond[:, 0] = False  # the most likely token stays, even at top_p = 0
    return torch.zeros_like(probabilities).scatter(1, index, ordered.masked_fill(beyond, 0))
