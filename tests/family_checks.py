"""What the engine and the trainer make of a model, beside what only transformers makes of it."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from exsearch.config import LearnConfig
from exsearch.core.errors import ExSearchError
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Sampling
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.hf.paths import judge_engine
from exsearch.engine.models.limits import context_limit, steady_limit
from exsearch.engine.models.merging import merge_checked
from exsearch.engine.models.noise import without_noise
from exsearch.engine.models.probe import ModelVerdict
from exsearch.training.example import Example
from exsearch.training.learners.adapters import add_lora
from exsearch.training.learners.learner import TorchLearner
from exsearch.training.loss import WeightedLoss
from exsearch.training.packing.ways import judge_trainer
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.trainer import accumulate_gradient
from model_families import VOCABULARY, Family

LONGEST = 380
"""Tokens of a conversation, for models that take this many."""
SHORTEST = 48
"""A model that is right for fewer tokens alone counts as refused."""
EXACT = 1e-4
"""By how many nats a log-prob, and by which part of its length a gradient, may be off."""
_WORDS = VOCABULARY - 120
"""Of the vocabulary: the last ones are special to some families."""


@dataclass
class Finding:
    """One part of ExSearch on one family."""

    path: str = ""
    """That was taken; "" if the model is refused."""
    refusal: str = ""
    differences: dict[str, float] = field(default_factory=dict)
    """From transformers only."""
    limit: int | None = None
    """Beyond how many tokens it is refused, if it is right for fewer."""
    rounding: float = 0.0
    """Of transformers' own log-probs in float32, where that is more than `EXACT`: their distance from float64's."""

    @property
    def verdict(self) -> str:
        """`right`, `refused` or `WRONG`."""
        if not self.path:
            return "refused"
        return "right" if max(self.differences.values()) < max(EXACT, self.rounding) else "WRONG"


def text(length: int, seed: int) -> TokenIds:
    """Return random words."""
    found: TokenIds = np.random.default_rng(seed).integers(3, _WORDS, length).tolist()
    return found


def _found(verdict: ModelVerdict, model: PreTrainedModel) -> Finding:
    limit = steady_limit(model.config)
    if limit is not None and limit.tokens < SHORTEST:
        return Finding(refusal=f"beyond {limit.tokens} tokens: {limit.reason}")
    if not verdict.path:
        return Finding(refusal="; ".join(f"{path}: {why}" for path, why in verdict.rejected.items()))
    return Finding(verdict.path, limit=limit and limit.tokens)


@torch.inference_mode()
def plain(model: PreTrainedModel, ids: TokenIds) -> torch.Tensor:
    """Return log-probs of every word at every place, by transformers only."""
    found: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(dim=-1)
    return found


@torch.inference_mode()
def rounding(family: Family, ids: TokenIds) -> float:
    """Return how far transformers' own log-probs in float32 are from those in float64."""
    exact = family.model().double()
    exact.set_experts_implementation("eager")  # the others know no float64
    found = exact(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(dim=-1)
    return float((found - plain(family.model(), ids)).abs().max())


def check_engine(family: Family) -> Finding:
    """Hold four conversations at once, two of them alike at first; each is scored, extended twice, and speaks."""
    model = family.model()
    found = _found(judge_engine(model), model)
    if not found.path:
        return found
    longest = min(LONGEST, context_limit(model.config))
    shared = text(longest * 270 // 380, 1)
    starts = [text(longest * 70 // 380, 2), text(longest * 61 // 380, 3)]
    starts += [shared + text(longest * part // 380, 4 + part) for part in (40, 30)]
    engine = HFEngine(family.model(), family.name, seats=4, path=found.path)  # type: ignore[arg-type]
    scored: list[tuple[TokenIds, TokenIds, list[float]]] = []

    async def hold(start: TokenIds, number: int) -> None:
        seat, ids = engine.open(), start
        for more in (longest * 25 // 380, longest * 15 // 380, 0):
            target = text(5, 50 + number)
            scored.append((ids, target, await seat.logprobs(ids, target)))
            ids = ids + text(more, 60 + number)
        said = await seat.generate(ids, Sampling(3, []), number)
        scored.append((ids, said.token_ids, said.logprobs))
        scored.append((start, text(2, 9), await seat.logprobs(start, text(2, 9))))
        seat.close()

    async def together() -> None:
        await asyncio.gather(*(hold(start, number) for number, start in enumerate(starts)))

    asyncio.run(together())
    worst = 0.0
    for prompt, target, logprobs in scored:
        expected = plain(model, prompt + target)
        for number, (token, logprob) in enumerate(zip(target, logprobs, strict=True)):
            difference = abs(float(expected[len(prompt) + number - 1, token]) - logprob)
            worst = max(worst, difference if difference == difference else float("inf"))
    found.differences["log-prob"] = worst
    if EXACT <= worst < 10 * EXACT:
        found.rounding = rounding(family, max((prompt + target for prompt, target, _ in scored), key=len))
    return found


def check_trainer(family: Family) -> Finding:
    """Compare loss and gradient of three weighted examples, two of which begin alike, cut in two ways."""
    model = family.model()
    without_noise(model)
    found = _found(judge_trainer(model), model)
    if not found.path:
        return found
    unit = min(90, context_limit(model.config)) // 9
    shared = text(4 * unit, 1)
    parts = [shared + text(4 * unit, 2), shared + text(5 * unit, 3), text(6 * unit, 4)]
    examples = [
        Example(ids, [0, 0] + [1] * (len(ids) - 2), len(ids) - 5, weight)
        for ids, weight in zip(parts, (0.5, 1.5, 1.0), strict=True)
    ]
    loss, expected = _plain_gradient(family, examples)
    for tokens in (10_000, 10 * unit):
        model.zero_grad()
        config = LearnConfig(micro_batch_tokens=tokens)
        weighted = WeightedLoss(model, config, packing=found.path)  # type: ignore[arg-type]
        alone = Ranks(0, 1, "cpu")
        sums = accumulate_gradient(TorchLearner(weighted, config, alone, torch.float32, False), examples, config, alone)
        told = (sums.search_nll + sums.answer_nll) / sum(one.weight * one.loss_tokens() for one in examples)
        apart = _distance(model, expected)
        for name, value in (("loss", abs(told - loss)), ("gradient", apart)):
            found.differences[name] = max(found.differences.get(name, 0.0), value)
    return found


def _plain_gradient(family: Family, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean loss a token and the gradient of the examples one by one, by transformers only."""
    model = family.model()
    total = torch.zeros(())
    for example in examples:
        ids = torch.tensor([example.token_ids])
        logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(dim=-1)
        chosen = logprobs.gather(1, ids[0, 1:, None])[:, 0] * torch.tensor(example.loss_mask[1:])
        total = total - example.weight * chosen.sum()
    mass = sum(example.weight * example.loss_tokens() for example in examples)
    (total / mass).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach()) / mass, gradients


def _distance(model: PreTrainedModel, expected: dict[str, torch.Tensor]) -> float:
    """Return how far the model's gradient is from another, as a part of its length; infinite if a tensor lacks one."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if not expected.keys() <= found.keys():
        return float("inf")
    apart = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    extra = sum(float(found[name].double().square().sum()) for name in found.keys() - expected.keys())
    whole = sum(float(gradient.double().square().sum()) for gradient in expected.values())
    return float(((apart + extra) / whole) ** 0.5)


def check_adapters(family: Family) -> Finding:
    """Put random adapters into a model and merge them."""
    model = family.model()
    try:
        adapted = add_lora(model, 4)
        noise = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.2, generator=noise)
        merge_checked(model, adapted.merge_and_unload)
    except ExSearchError as error:
        return Finding(refusal=str(error))
    return Finding("merged", differences={"merged": 0.0})
