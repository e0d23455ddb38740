"""EM on a model small enough to enumerate: what weightings, steps and replay do to log p(y | x).

    python benchmarks/exact_em.py [--seeds 0 1 2] [--steps 20] [--parts exact-em exact-directions exact-replay]

A trajectory is two tokens z after the question's token, an answer is one token after z, all from a vocabulary of six:
p(y | x) is an exact sum over 36 trajectories. The E-step takes all of them, each with its probability times its weight;
the M-step minimises the loss of the trainer. Nothing is sampled, so only the weighting differs:

* `paper`: p(y | x, z), normalised over the trajectories of a question;
* `reference-v1`: 4 p(y | x, z)^(1 / tokens), not normalised;
* `rft`: 1 where the answer's likeliest token is right, else 0;
* `uniform`: 1.

Then two tables about the M-step, with the paper's weights. Where do the steps of an epoch point, compared with the
exact gradient of log p(y | x), and how far does that depend on the order of the batches? And what becomes of
log p(y | x) of all questions, if each E-step asks one of them, and the M-step learns from it alone, or from all so far?

Prints the tables and writes benchmarks/results/exact_em.json.
"""

import argparse
import copy
import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from page import insert_table, rows
from transformers import LlamaConfig, LlamaForCausalLM

from exsearch.config import TrainingConfig
from exsearch.core.atomic import write_text
from exsearch.em.replay import decayed
from exsearch.training.batches import batch_of_step, steps_per_epoch
from exsearch.training.example import Example
from exsearch.training.learners.learner import TorchLearner
from exsearch.training.loss import WeightedLoss, expected_denominator
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.trainer import accumulate_gradient, learning_rate

RESULT = Path(__file__).parent / "results" / "exact_em.json"
TOKENS = 6
QUESTIONS = {0: 3, 1: 5, 2: 3}
"""The token of each question and that of its answer."""
PATHS = list(itertools.product(range(TOKENS), repeat=2))
WEIGHTINGS = ("paper", "reference-v1", "rft", "uniform")
WAYS: dict[str, dict[str, object]] = {
    "as before: weight of the batch, every step cut": {"denominator": "batch", "max_grad_norm": 1e-3},
    "weight of the batch, nothing cut": {"denominator": "batch", "max_grad_norm": 1e9},
    "expected weight, every step cut": {"denominator": "expected", "max_grad_norm": 1e-3},
    "expected weight, nothing cut": {"denominator": "expected", "max_grad_norm": 1e9},
}
"""How the loss of a step is divided, and its gradient cut."""
REPLAYS = {"its own question": 1.0, "g = 1/2": 0.5, "g = 1/t": 0.0}
"""`learn.replay_rate` by what the M-step learns from; 1 is no replay."""
RATE = 1e-7
"""Of steps so small that all see the same model."""
ALONE = Ranks(0, 1, "cpu")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # a model this small is slower on more
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result |= {"steps": options.steps, "seeds": options.seeds, "optimum": 0.0}
    for part in options.parts:
        key, found, table = PARTS[part](options.seeds, options.steps)
        write_text(RESULT, json.dumps(result := result | {key: found}) + "\n")
        print(f"\n{table}")
        insert_table(part, table)


Part = tuple[str, dict[str, Any], str]
"""The name of some figures, the figures, and their table."""


def weightings(seeds: list[int], steps: int) -> Part:
    """Return log p(y | x) under each weighting."""
    curves = {name: [run(name, seed, steps) for seed in seeds] for name in WEIGHTINGS}
    lines = [[name, *means_at(found, (0, 1, 5, steps)), lowered(found)] for name, found in curves.items()]
    header = ["weighting", "at first", "1 step", "5 steps", f"{steps} steps", "steps that lowered it"]
    return "log_likelihood", curves, rows(header, lines)


def directions(seeds: list[int], steps: int) -> Part:
    """Return where the steps of an epoch point."""
    found = {name: [direction(seed, **ways) for seed in seeds] for name, ways in WAYS.items()}
    means = {name: [statistics.mean(each) for each in zip(*cosines, strict=True)] for name, cosines in found.items()}
    lines = [[name, *(f"{value:.4f}" for value in values)] for name, values in means.items()]
    return "cosines", found, rows(["steps", "with the exact gradient", "of two orders"], lines)


def replays(seeds: list[int], steps: int) -> Part:
    """Return log p(y | x) if each E-step asks one question."""
    found = {name: [one_at_a_time(rate, seed, steps) for seed in seeds] for name, rate in REPLAYS.items()}
    lines = []
    for name, curves in found.items():
        worst = min(after - before for curve in curves for before, after in itertools.pairwise(curve))
        lines.append([name, *means_at(curves, (0, 3, 9, steps)), lowered(curves), f"{worst:+.3f}"])
    header = ["learned from", "at first", "3 steps", "9 steps", f"{steps} steps", "steps that lowered it", "worst step"]
    return "one_question_each", found, rows(header, lines)


PARTS: dict[str, Callable[[list[int], int], Part]] = {
    "exact-em": weightings,
    "exact-directions": directions,
    "exact-replay": replays,
}
"""By the names of their tables."""


def means_at(curves: list[list[float]], places: tuple[int, ...]) -> list[str]:
    """Return the means of curves at some of their points."""
    return [f"{statistics.mean(curve[at] for curve in curves):.3f}" for at in places]


def lowered(curves: list[list[float]]) -> str:
    """Say how many steps lowered the likelihood."""
    steps = [after < before - 1e-4 for curve in curves for before, after in itertools.pairwise(curve)]
    return f"{sum(steps)} of {len(steps)}"


def direction(seed: int, **ways: object) -> tuple[float, float]:
    """Return the cosine of an epoch's steps with the exact gradient, and with those of another order."""
    model = random_model(seed)
    examples = e_step(model, "paper")
    model.zero_grad()
    found = [torch.logsumexp(sum(joint(model, x)[:2]), dim=0) for x in QUESTIONS]  # type: ignore[call-overload]
    torch.stack(found).mean().backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    config = msgspec.structs.replace(TrainingConfig(batch_size=2), **ways)
    one, two = (moved(copy.deepcopy(model), examples, config, order) for order in (1, 2))
    return cosine(one, exact), cosine(one, two)


def cosine(one: torch.Tensor, two: torch.Tensor) -> float:
    """Return the cosine of the angle between two directions."""
    return float(torch.nn.functional.cosine_similarity(one, two, dim=0))


def moved(model: LlamaForCausalLM, examples: list[Example], config: TrainingConfig, order: int) -> torch.Tensor:
    """Return where an epoch of steps moves the parameters that are each a tiny part of the gradient as it is cut."""
    learner = TorchLearner(WeightedLoss(model, config), config, ALONE, torch.float32, sharded=False)
    learner._optimiser = torch.optim.SGD(learner.parameters.values(), lr=RATE)
    before = torch.cat([p.detach().flatten() for p in learner.parameters.values()])
    epoch(learner, examples, config, order, lambda step: RATE)
    return torch.cat([p.detach().flatten() for p in learner.parameters.values()]) - before


def epoch(
    learner: TorchLearner, examples: list[Example], config: TrainingConfig, order: int, rate: Callable[[int], float]
) -> None:
    """Make the steps of an epoch as the trainer does."""
    constant = expected_denominator(examples, config.batch_size, config.normalise)
    for step in range(steps_per_epoch(len(examples), config.batch_size)):
        batch = batch_of_step(examples, step, config.batch_size, order)
        accumulate_gradient(learner, batch, config, ALONE, constant if config.denominator == "expected" else None)
        learner.step(rate(step))


def one_at_a_time(replay_rate: float, seed: int, steps: int) -> list[float]:
    """Return the mean of log p(y | x) over all questions, if each E-step asks one of them in turn, after each M-step.

    The M-step is one epoch of the trainer's own steps, on the trajectories with the weights that replay gives them.
    """
    model, config = random_model(seed), TrainingConfig(batch_size=36, learning_rate=3e-3)
    reached, earlier = [likelihood(model)], list[list[Example]]()
    for number in range(steps):
        x = list(QUESTIONS)[number % len(QUESTIONS)]
        earlier.append([example for example in e_step(model, "paper") if example.token_ids[0] == x])
        factors = decayed([1] * len(earlier), replay_rate) if replay_rate < 1 else [0.0] * number + [1.0]
        learned = [
            replace(example, weight=factor * example.weight)
            for examples, factor in zip(earlier, factors, strict=True)
            for example in examples
            if factor * example.weight > 1e-4
        ]
        learner = TorchLearner(WeightedLoss(model, config), config, ALONE, torch.float32, sharded=False)
        total = steps_per_epoch(len(learned), config.batch_size)
        epoch(learner, learned, config, number, lambda step: learning_rate(config, step, total))  # noqa: B023
        reached.append(likelihood(model))
    return reached


def run(weighting: str, seed: int, steps: int) -> list[float]:
    """Return the mean of log p(y | x) over the questions, before any step and after each."""
    model = random_model(seed)
    reached = [likelihood(model)]
    for _ in range(steps):
        m_step(model, e_step(model, weighting))
        reached.append(likelihood(model))
    return reached


def random_model(seed: int) -> LlamaForCausalLM:
    """Return a model that knows nothing, in double precision."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=TOKENS,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    ).double()


def joint(model: LlamaForCausalLM, x: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log p(z | x), log p(y | x, z) and whether y is the likeliest answer, for all z."""
    model.set_attn_implementation("sdpa")  # training sets its own
    ids = torch.tensor([[x, *z, QUESTIONS[x]] for z in PATHS])
    logprobs = model(ids).logits.log_softmax(dim=-1)
    steps = logprobs[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    return steps[:, :2].sum(dim=1), steps[:, 2], logprobs[:, 2].argmax(dim=1) == QUESTIONS[x]


@torch.no_grad()
def likelihood(model: LlamaForCausalLM) -> float:
    """Return the mean of log p(y | x) over the questions, exact."""
    found = [torch.logsumexp(search + answer, dim=0) for search, answer, _ in (joint(model, x) for x in QUESTIONS)]
    return float(torch.stack(found).mean())


@torch.no_grad()
def e_step(model: LlamaForCausalLM, weighting: str) -> list[Example]:
    """Return every trajectory with its probability times its weight."""
    examples = []
    for x, y in QUESTIONS.items():
        search, answer, right = joint(model, x)
        weights = {
            "paper": (search + answer).softmax(dim=0),
            "reference-v1": search.exp() * 4 * answer.exp(),
            "rft": search.exp() * right,
            "uniform": search.exp(),
        }[weighting]
        examples += [Example([x, *z, y], [0, 1, 1, 1], 3, w) for z, w in zip(PATHS, weights.tolist(), strict=True) if w]
    return examples


def m_step(model: LlamaForCausalLM, examples: list[Example]) -> None:
    """Minimise the trainer's loss on the examples."""
    if not examples:
        return
    config = TrainingConfig(micro_batch_tokens=512)
    learner = TorchLearner(WeightedLoss(model, config), config, ALONE, torch.float32, sharded=False)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    mass = sum(example.weight * example.loss_tokens() for example in examples)

    def loss() -> float:
        optimiser.zero_grad()
        sums = accumulate_gradient(learner, examples, config, ALONE)
        return (sums.search_nll + sums.answer_nll) / mass

    optimiser.step(loss)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
