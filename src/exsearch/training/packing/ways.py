"""Ways to compute the examples of a micro-batch together, and the choice of one that is right for a model."""

from pathlib import Path
from typing import get_args

import torch
from transformers import PreTrainedModel

from exsearch.config import TrainingConfig
from exsearch.engine.models.attention_choice import attention_of, choose_attention
from exsearch.engine.models.builtin import model_fingerprint
from exsearch.engine.models.probe import (
    ModelVerdict,
    distance,
    judge,
    plain_logprobs,
    probe_tokens,
    remembered,
    seen_through,
    tolerance_of,
)
from exsearch.training.example import Example
from exsearch.training.loss import Packing, WeightedLoss
from exsearch.training.packing.rows import line_up
from exsearch.training.packing.tree import MIN_SHARED, grow


def trainer_verdict(model: PreTrainedModel, base: Path, config: TrainingConfig, device: str) -> ModelVerdict:
    """Return the cached verdict on a model that is loaded for training from `base`."""
    identity = [model_fingerprint(base), config.quantise, config.lora_rank, device.split(":")[0]]
    return remembered("trainer", identity, lambda: judge_trainer(model))


def judge_trainer(model: PreTrainedModel) -> ModelVerdict:
    """Find the first way of packing that is right for a loaded model; the model's attention is not changed.

    None is right for a model that sees later tokens: the loss of a whole text is then not that of generating it.
    """
    own = attention_of(model)
    ids = probe_tokens(model)
    shared = max(len(ids) // 2, min(MIN_SHARED, len(ids) - 2))
    branch, other = ids[:shared] + ids[: len(ids) - shared][::-1], ids[::-1][:-3]
    examples = [_example(ids, 1), _example(branch, shared), _example(other, 1)]

    def difference(packing: Packing) -> float:
        choose_attention(model, own)
        loss = WeightedLoss(model, TrainingConfig(), packing=packing)
        parts = [grow(examples)] if packing == "tree" else [line_up(examples)]
        if packing == "single":
            parts = [line_up([example]) for example in examples]
        with torch.no_grad():
            logprobs = torch.cat([-loss.losses(part)[0].cpu() for part in parts])
        return distance(model, logprobs, expected)

    try:
        with seen_through(model):
            firsts = [example.loss_mask.index(1) - 1 for example in examples]
            plain = [plain_logprobs(model, example.token_ids) for example in examples]
            ahead = distance(model, plain[0][: shared - 1], plain[1][: shared - 1]) if shared > 1 else 0.0
            if tolerance_of(model) < ahead < float("inf"):
                reason = f"its output at a token depends on later tokens, by {ahead:.2g} nats"
                return ModelVerdict("", None, tolerance_of(model), {"any packing": reason})
            expected = torch.cat([part[first:] for part, first in zip(plain, firsts, strict=True)])
            return judge(get_args(Packing), tolerance_of(model), difference)
    finally:
        choose_attention(model, own)


def _example(ids: list[int], first: int) -> Example:
    """Return an example with loss from its token `first` on."""
    return Example(ids, [int(position >= first) for position in range(len(ids))], 1)
