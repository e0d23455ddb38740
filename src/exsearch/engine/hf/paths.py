"""The ways (paths) in which the engine can compute a model, and the choice of one that is right for it."""

from typing import Literal, get_args

import msgspec
import torch
from transformers import PreTrainedModel

from exsearch.core.tokens import TokenIds
from exsearch.engine.hf.call import Call
from exsearch.engine.hf.memory import Memory
from exsearch.engine.hf.own_memory import OwnMemory
from exsearch.engine.hf.slot_memory import SlotMemory
from exsearch.engine.models.attention_choice import attention_of, choose_attention
from exsearch.engine.models.probe import (
    ModelVerdict,
    distance,
    in_float32,
    is_exact,
    judge,
    plain_logprobs,
    probe_tokens,
    remembered,
    seen_through,
    tolerance_of,
)

EnginePath = Literal["slots", "pieces", "tokens", "whole"]
"""Slots of one buffer; or one cache of the model's own kind per seat, extended by all new tokens at once or one by one;
or no memory at all."""
_SCORED = 4
"""Number of tokens scored after each prompt of the probe."""


def memory_of(model: PreTrainedModel, path: EnginePath, seats: int) -> Memory:
    """Return the memory for conversations on a path."""
    return SlotMemory(model, seats) if path == "slots" else OwnMemory(model, path)


def engine_verdict(model: PreTrainedModel, fingerprint: str, device: str) -> ModelVerdict:
    """Return the cached verdict on a loaded model with this fingerprint."""
    identity = [fingerprint, str(model.dtype), device.split(":")[0]]
    return remembered("engine", identity, lambda: judge_engine(model))


def judge_engine(model: PreTrainedModel) -> ModelVerdict:
    """Find the first path that is right for a loaded model; the model's attention is not changed.

    A model with fewer bits than float32 is judged in float32 first, if memory allows: otherwise, a wrong path might be
    indistinguishable from rounding.
    """
    paths = get_args(EnginePath)
    if is_exact(model) or getattr(model, "is_quantized", False):
        return _first_right(model, paths)
    try:
        with in_float32(model):
            exact = _first_right(model, paths)
    except Exception:  # not enough memory, or the model computes only in its own precision
        return _first_right(model, paths)
    if not exact.path:
        return exact if exact.difference is not None else _first_right(model, paths)
    rough = _first_right(model, paths[paths.index(exact.path) :])
    return msgspec.structs.replace(rough, rejected=exact.rejected | rough.rejected)


def _first_right(model: PreTrainedModel, paths: tuple[EnginePath, ...]) -> ModelVerdict:
    own = attention_of(model)
    ids = probe_tokens(model)

    def difference(path: EnginePath) -> float:
        choose_attention(model, own)
        logprobs, places = _scores(memory_of(model, path, seats=3), ids)
        return distance(model, logprobs, expected[places])

    try:
        with seen_through(model):
            expected = plain_logprobs(model, ids)
            return judge(paths, tolerance_of(model), difference)
    finally:
        choose_attention(model, own)


@torch.inference_mode()
def _scores(memory: Memory, ids: TokenIds) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs of tokens of a text, and the positions before them.

    Two conversations share a beginning and one seat is idle; one conversation is continued twice, and another is
    resumed from an earlier turn.
    """
    scores, places = [], []
    third = len(ids) // 3
    for ends in ((third, third), (len(ids) - _SCORED, third + 9), (2 * third, 2 * third + 9)):
        calls = [Call(seat, ids[:end], target=ids[end : end + _SCORED]) for seat, end in enumerate(ends)]
        for call in calls:
            memory.prefill(call)
        for number in range(_SCORED):
            logprobs = memory.advance(calls).log_softmax(dim=-1).cpu()
            for row, call in enumerate(calls):
                call.logprobs.append(float(logprobs[row, call.target[number]]))
                scores.append(call.logprobs[-1])
                places.append(len(call.ids) + number - 1)
    return torch.tensor(scores), torch.tensor(places)
