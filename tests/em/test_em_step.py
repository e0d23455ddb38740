"""EM on a model small enough to enumerate: a step never makes the training answers less likely (invariant 4).

A trajectory is two tokens z after the question's token, an answer is one token after z, all from a vocabulary of
six, so p(y | x) is an exact sum over the 36 trajectories.
"""

import copy
import itertools
import math

import msgspec
import pytest
import torch
from transformers import LlamaForCausalLM

from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.config import Denominator, LearnConfig, WeighConfig
from exsearch.em.weigh import weigh
from exsearch.questions.question import Question
from exsearch.training.batches import batch_of_step, steps_per_epoch
from exsearch.training.example import Example
from exsearch.training.learners.learner import TorchLearner
from exsearch.training.loss import LossSums, WeightedLoss, expected_denominator
from exsearch.training.packing.tree import grow
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.trainer import accumulate_gradient
from tiny_models import tiny_llama

TOKENS = 6
QUESTIONS = {0: 3, 1: 5, 2: 3}
"""The token of each question and that of its answer."""
PATHS = list(itertools.product(range(TOKENS), repeat=2))


def log_joint(model: LlamaForCausalLM, x: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p(z | x) and log p(y | x, z) for all z."""
    model.set_attn_implementation("sdpa")  # training sets its own
    ids = torch.tensor([[x, *z, QUESTIONS[x]] for z in PATHS])
    logprobs = model(ids).logits.log_softmax(dim=-1)
    steps = logprobs[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    return steps[:, :2].sum(dim=1), steps[:, 2]


def log_likelihood(model: LlamaForCausalLM) -> torch.Tensor:
    """Return the sum over the questions of log p(y | x), marginalised over z."""
    return torch.stack([sum(log_joint(model, x)).logsumexp(dim=0) for x in QUESTIONS]).sum()  # type: ignore[union-attr]


def posterior_examples(model: LlamaForCausalLM) -> list[Example]:
    """E-step: every z of every question, weighted by p(z | x, y)."""
    examples = []
    with torch.no_grad():
        for x, y in QUESTIONS.items():
            search, answer = log_joint(model, x)
            weights = (search + answer).softmax(dim=0).tolist()
            examples += [Example([x, *z, y], [0, 1, 1, 1], 3, w) for z, w in zip(PATHS, weights, strict=True)]
    return examples


def gradient(model: LlamaForCausalLM, examples: list[Example], config: LearnConfig) -> LossSums:
    """Add the gradient of the loss to the parameters'."""
    alone = Ranks(0, 1, "cpu")
    learner = TorchLearner(WeightedLoss(model, config), config, alone, torch.float32, sharded=False)
    return accumulate_gradient(learner, examples, config, alone)


def m_step(model: LlamaForCausalLM, examples: list[Example], ascents: int = 4) -> None:
    """Climb the expected log-likelihood, each time as far as it still rises."""
    parameters = list(model.parameters())
    config = LearnConfig(micro_batch_tokens=64)
    for _ in range(ascents):
        before = gradient(model, examples, config)
        start = [p.detach().clone() for p in parameters]
        for halvings in range(20):
            with torch.no_grad():
                for p, origin in zip(parameters, start, strict=True):
                    p.copy_(origin if p.grad is None else origin - 0.3 * 0.5**halvings * p.grad)
                after = LossSums(*WeightedLoss(model, config)(grow(examples))[1].tolist())
            if after.search_nll + after.answer_nll < before.search_nll + before.answer_nll:
                break
        model.zero_grad()


@pytest.mark.parametrize("seed", range(4))
def test_a_full_em_step_never_lowers_the_likelihood_of_the_training_answers(seed: int) -> None:
    model = tiny_llama(TOKENS, seed)
    reached = [log_likelihood(model).item()]
    for _ in range(6):
        m_step(model, posterior_examples(model))
        reached.append(log_likelihood(model).item())
    assert all(after >= before - 1e-5 for before, after in itertools.pairwise(reached)), reached
    assert reached[-1] > reached[0] + 0.5


def flat_gradient(model: LlamaForCausalLM) -> torch.Tensor:
    """Return the gradient that the parameters hold, and forget it."""
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def exact_gradient(model: LlamaForCausalLM) -> torch.Tensor:
    """Return the gradient of the mean over the questions of -log p(y | x)."""
    model.zero_grad()
    (-log_likelihood(model) / len(QUESTIONS)).backward()
    return flat_gradient(model)


@pytest.mark.parametrize("denominator", ["expected", "batch"])
@pytest.mark.parametrize("seed", range(3))
def test_at_the_exact_posterior_the_gradient_of_the_loss_is_that_of_the_marginal_likelihood(
    seed: int, denominator: Denominator
) -> None:
    model = tiny_llama(TOKENS, seed)
    examples = posterior_examples(model)
    gradient(model, examples, LearnConfig(micro_batch_tokens=50, denominator=denominator))
    found = flat_gradient(model) * (3 if denominator == "expected" else 1)  # tokens of a trajectory with its answer
    exact = exact_gradient(model)
    assert float((found - exact).norm() / exact.norm()) < 1e-4


def moved_by_an_epoch(model: LlamaForCausalLM, examples: list[Example], config: LearnConfig, seed: int) -> torch.Tensor:
    """Return how far an epoch of the trainer's steps moves the parameters, if each follows its gradient a tiny bit.

    That bit is so small that all steps see the same model; double precision can tell.
    """
    alone, rate = Ranks(0, 1, "cpu"), 1e-7
    learner = TorchLearner(WeightedLoss(model, config), config, alone, torch.float32, sharded=False)
    learner._optimiser = torch.optim.SGD(learner.parameters.values(), lr=rate)
    before = torch.cat([p.detach().flatten() for p in learner.parameters.values()])
    constant = expected_denominator(examples, config.batch_size, config.normalise)
    for step in range(steps_per_epoch(len(examples), config.batch_size)):
        batch = batch_of_step(examples, step, config.batch_size, seed)
        accumulate_gradient(learner, batch, config, alone, constant if config.denominator == "expected" else None)
        learner.step(rate)
    after = torch.cat([p.detach().flatten() for p in learner.parameters.values()])
    return (after - before) / rate


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
@pytest.mark.parametrize("seed", range(2))
def test_the_steps_of_an_epoch_add_up_to_the_gradient_of_the_marginal_likelihood(seed: int, batch_size: int) -> None:
    model = tiny_llama(TOKENS, seed).double()
    examples = posterior_examples(model)
    exact = -exact_gradient(model)
    config = LearnConfig(batch_size=batch_size)

    def cosine(**others: object) -> float:
        moved = moved_by_an_epoch(copy.deepcopy(model), examples, msgspec.structs.replace(config, **others), seed)
        return float(torch.nn.functional.cosine_similarity(moved, exact, dim=0))

    assert cosine(max_grad_norm=1e6) > 1 - 1e-6
    assert cosine(max_grad_norm=1e6, denominator="batch") < 0.999, "a batch of little weight counts like any other"
    assert cosine(max_grad_norm=1e-3) < 0.999, "if every step is cut, all batches count alike"


def test_weights_of_many_samples_add_up_to_the_exact_posterior() -> None:
    model = tiny_llama(TOKENS, seed=1)
    x = 0
    with torch.no_grad():
        search, answer = log_joint(model, x)
    exact = (search + answer).softmax(dim=0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(search.exp(), 20_000, replacement=True, generator=generator).tolist()
    samples = [
        Trajectory(
            "x",
            number,
            [],
            "-",
            StopReason.ANSWERED,
            [],
            [],
            [],
            0,
            0,
            "m",
            "i",
            [AliasScore("y", answer[z].item(), 1)],
        )
        for number, z in enumerate(drawn)
    ]
    found = torch.zeros(len(PATHS))
    for z, record in zip(drawn, weigh(samples, [Question("x", "x?", ["y"])], WeighConfig()), strict=True):
        found[z] += record.weight
    assert float((found - exact).abs().sum()) / 2 < 0.03
    assert float((search.softmax(dim=0) - exact).abs().sum()) / 2 > 0.1, "the prior alone would not pass"
    assert math.isclose(float(found.sum()), 1, rel_tol=1e-4)
