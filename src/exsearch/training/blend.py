"""Interpolates the weights of several checkpoints: a part of a step, or a mean.

Between two models, one trained from the other, the loss is nearly flat: part of a step has part of the whole step's
effect, and the mean of two models is about as good as the better one (model soups: arXiv 2203.05482; WARP: arXiv
2406.16768).
"""

import math
from pathlib import Path

import torch

from exsearch.config import ModelConfig
from exsearch.core.atomic import is_taken, remove
from exsearch.core.errors import ExSearchError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json
from exsearch.engine.models.checkpoint import load_model
from exsearch.hardware.devices import pick_dtype
from exsearch.processes import compute
from exsearch.training.saving import JOB, restore_float32, save_checkpoint, start_fingerprint


@compute.owned
def blend(parts: list[tuple[Path, float]], output: Path, model: ModelConfig, keep_float32: bool) -> None:
    """Write the weighted sum of checkpoints of one model as a checkpoint; an existing one from the same parts is kept.

    The shares sum to 1. With `keep_float32`, the weights kept in float32 are summed, and the result is also kept in
    float32; otherwise, the rounded weights are summed. A checkpoint of other parts is replaced. Raises ExSearchError
    for models with different shapes.
    """
    assert math.isclose(sum(share for _, share in parts), 1.0), parts
    dtype = pick_dtype(model)
    shares = [(start_fingerprint(path, keep_float32), share) for path, share in parts]
    job = fingerprint([shares, str(dtype), keep_float32])
    if is_taken(output):
        if read_json(output / JOB, dict[str, object]).get("job") == job:
            return
        remove(output)
    (first, own), *others = parts
    blended = load_model(first, torch.float32)
    if keep_float32:
        restore_float32(blended, first)
    sums = dict(blended.named_parameters())
    with torch.no_grad():
        for parameter in sums.values():
            parameter.mul_(own)
        for path, share in others:
            other = load_model(path, torch.float32)
            if keep_float32:
                restore_float32(other, path)
            added = dict(other.named_parameters())
            if {n: p.shape for n, p in added.items()} != {n: p.shape for n, p in sums.items()}:
                raise ExSearchError(
                    f"{first} and {path} are models with different shapes; their weights cannot be summed"
                )
            for name, parameter in sums.items():
                parameter.add_(added[name], alpha=share)
    save_checkpoint(blended, first, output, dtype, {"job": job, "shares": shares}, keep_float32)
