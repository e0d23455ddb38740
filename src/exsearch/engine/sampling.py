"""Drawing tokens from logits so that a draw depends on its own seed and distribution alone."""

import hashlib

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """Return a 64-bit seed that depends on all parts and nothing else, such as (run seed, question id, sample)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def uniforms(seeds: list[int], count: int) -> torch.Tensor:
    """Return for each seed `count` uniform numbers in [0, 1), shape (seeds, count): one for each token to draw."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Draw one token a row by inverting the cumulative distribution at `uniform`; greedy at temperature 0.

    `logits` has shape (rows, vocabulary), `uniform` (rows,). Returns token ids of shape (rows,).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.double().cumsum(dim=-1)
    # The sum may miss 1 by rounding: measure against the sum itself, so that no impossible token is drawn.
    threshold = (uniform.to(cumulative.device) * cumulative[:, -1]).unsqueeze(1)
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the likeliest tokens that together reach `top_p`."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    beyond[:, 0] = False  # the likeliest token stays, also at top_p = 0
    return torch.zeros_like(probabilities).scatter(1, index, ordered.masked_fill(beyond, 0))
