"""The training loss: what it sums, and that cutting a batch changes nothing (invariant 1 of CONTRIBUTING.md)."""

import math
import random
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from exsearch.config import Denominator, LearnConfig, Normalisation
from exsearch.training.example import Example
from exsearch.training.learners.adapters import add_lora
from exsearch.training.learners.learner import TorchLearner
from exsearch.training.loss import LossSums, WeightedLoss, expected_denominator, normalised
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.trainer import accumulate_gradient, reference_of
from tiny_models import VOCABULARY, tiny_llama

ALONE = Ranks(0, 1, "cpu")
BEGINNING = [(7 * n) % VOCABULARY for n in range(60)]
"""Examples begin with some of this, so that they have more or less in common."""


@st.composite
def example(draw: st.DrawFn) -> Example:
    ids = BEGINNING[: draw(st.integers(0, 60))]
    ids = ids + draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=max(0, 2 - len(ids)), max_size=30))
    length = len(ids)
    mask = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
    mask[draw(st.integers(1, length - 1))] = 1
    return Example(ids, mask, draw(st.integers(0, length)), draw(st.floats(0.01, 4)))


batches = st.lists(example(), min_size=1, max_size=7)
factors = st.sampled_from([0.0, 0.5, 1.0, 2.0])


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture(scope="module")
def plain() -> LlamaForCausalLM:
    """The same model with the attention that it came with."""
    return tiny_llama()


def flat_gradient(model: LlamaForCausalLM) -> torch.Tensor:
    found = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def gradient(model: LlamaForCausalLM, batch: list[Example], config: LearnConfig) -> tuple[torch.Tensor, LossSums]:
    loss = WeightedLoss(model, config)
    learner = TorchLearner(loss, config, ALONE, torch.float32, sharded=False)
    sums = accumulate_gradient(learner, batch, config, ALONE)
    return flat_gradient(model), sums


def naive_nll(model: LlamaForCausalLM, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """One example alone, token by token, with all logits: the nll of the search tokens and of the answer tokens."""
    logprobs = model(torch.tensor([example.token_ids])).logits[0].log_softmax(dim=-1)
    sums = [torch.zeros(()), torch.zeros(())]
    for position, token in enumerate(example.token_ids):
        if position > 0 and example.loss_mask[position]:
            sums[position >= example.answer_start] = (
                sums[position >= example.answer_start] - logprobs[position - 1, token]
            )
    return sums[0], sums[1]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-3))


@settings(max_examples=25)
@given(batches, st.integers(1, 300), st.randoms(use_true_random=False), factors)
def test_the_gradient_of_a_step_does_not_depend_on_how_its_batch_is_cut_or_ordered(
    model: LlamaForCausalLM, batch: list[Example], micro_batch_tokens: int, order: random.Random, factor: float
) -> None:
    whole = LearnConfig(micro_batch_tokens=10_000, answer_loss=factor)
    expected, sums = gradient(model, batch, whole)
    shuffled = order.sample(batch, len(batch))
    cut = LearnConfig(micro_batch_tokens=micro_batch_tokens, answer_loss=factor)
    found, sums_of_cut = gradient(model, shuffled, cut)
    assert distance(found, expected) < 1e-5
    assert sums_of_cut.search_nll == pytest.approx(sums.search_nll, rel=1e-4, abs=1e-4)
    assert sums_of_cut.answer_tokens == pytest.approx(sums.answer_tokens, rel=1e-5)


@settings(max_examples=15)
@given(
    batches,
    st.integers(1, 300),
    factors,
    factors,
    st.sampled_from(get_args(Normalisation)),
    st.sampled_from(get_args(Denominator)),
)
def test_the_gradient_is_that_of_the_weighted_log_likelihood_computed_token_by_token(
    model: LlamaForCausalLM,
    plain: LlamaForCausalLM,
    batch: list[Example],
    micro_batch_tokens: int,
    search: float,
    answer: float,
    by: Normalisation,
    denominator: Denominator,
) -> None:
    config = LearnConfig(
        micro_batch_tokens=micro_batch_tokens,
        search_loss=search,
        answer_loss=answer,
        normalise=by,
        denominator=denominator,
    )
    found, sums = gradient(model, batch, config)
    parts = [naive_nll(plain, e) for e in batch]
    weights = [e.weight / (e.loss_tokens() if by == "trajectory" else 1) for e in batch]
    in_tokens = by == "token" or (by == "question" and denominator == "expected")
    mass = math.fsum(e.weight * (e.loss_tokens() if in_tokens else 1) for e in batch)
    loss = sum(w * (search * z + answer * y) for w, (z, y) in zip(weights, parts, strict=True)) / mass
    loss.backward()
    assert distance(found, flat_gradient(plain)) < 1e-5
    for found_sum, term in ((sums.search_nll, 0), (sums.answer_nll, 1)):
        expected = math.fsum(w * part[term].item() for w, part in zip(weights, parts, strict=True))
        assert found_sum == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_the_third_term_is_the_divergence_from_where_training_began(rank: int) -> None:
    moved, start = tiny_llama(), tiny_llama()
    adapted = add_lora(moved, rank) if rank else None
    config = LearnConfig(search_loss=0.0, answer_loss=0.0, kl=0.5)
    loss = WeightedLoss(moved, config, reference_of(moved, adapted, config, torch.float32))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in moved.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    batch = [Example([5, 6, 7, 8, 9], [0, 1, 0, 1, 1], 4, 0.5), Example([9, 8, 7], [0, 1, 1], 1, 2.0)]
    learner = TorchLearner(loss, config, ALONE, torch.float32, sharded=False)
    found = accumulate_gradient(learner, batch, config, ALONE)
    gradient = flat_gradient(moved)
    moved.set_attn_implementation("sdpa")
    expected = torch.zeros(())
    for one in batch:
        new, old = (m(torch.tensor([one.token_ids])).logits[0].log_softmax(dim=-1) for m in (moved, start))
        divergence = (new.exp() * (new - old.detach())).sum(dim=-1)
        places = [position - 1 for position in range(1, len(one.token_ids)) if one.loss_mask[position]]
        expected = expected + one.weight * divergence[places].sum()
    assert found.kl == pytest.approx(expected.item(), rel=1e-4)
    assert found.kl > 0.1
    (0.5 * expected / (0.5 * 3 + 2.0 * 2)).backward()
    assert distance(gradient, flat_gradient(moved)) < 1e-4


@settings(max_examples=15)
@given(example(), st.floats(0.1, 3))
def test_a_weight_of_two_counts_like_the_example_twice(model: LlamaForCausalLM, one: Example, other: float) -> None:
    config = LearnConfig()
    rest = Example([5, 6, 7, 8], [0, 1, 1, 1], 2, other)
    double = Example(one.token_ids, one.loss_mask, one.answer_start, 2 * one.weight)
    assert distance(gradient(model, [double, rest], config)[0], gradient(model, [one, one, rest], config)[0]) < 1e-5


@settings(max_examples=15)
@given(example(), st.randoms(use_true_random=False))
def test_what_follows_the_last_loss_token_is_never_learned_from(
    model: LlamaForCausalLM, one: Example, source: random.Random
) -> None:
    tail = [source.randrange(VOCABULARY) for _ in range(5)]
    longer = Example(one.token_ids + tail, one.loss_mask + [0] * 5, one.answer_start, one.weight)
    assert distance(gradient(model, [longer], LearnConfig())[0], gradient(model, [one], LearnConfig())[0]) < 1e-5


@given(batches, st.integers(1, 9), st.integers(0, 99), st.sampled_from(get_args(Normalisation)))
def test_the_denominator_is_what_a_full_batch_weighs_on_average_over_its_orders(
    examples: list[Example], batch_size: int, seed: int, by: Normalisation
) -> None:
    found = expected_denominator(examples, batch_size, by)
    ordered = random.Random(seed).sample(examples, len(examples))
    size = min(batch_size, len(examples))
    rotated = [(ordered + ordered)[first : first + size] for first in range(len(examples))]  # each place equally often
    weighed = [sum(e.weight * e.loss_tokens() for e in normalised(batch, by)) for batch in rotated]
    assert found == pytest.approx(math.fsum(weighed) / len(weighed))


def test_the_logged_loss_is_the_weighted_mean_a_token() -> None:
    figures = LossSums(search_nll=6.0, answer_nll=1.0, search_tokens=4.0, answer_tokens=3.0).per_token()
    assert figures == {"loss": 1.0, "search_loss": 1.5, "answer_loss": round(1 / 3, 5)}
