"""EM on a model small enough to enumerate: what each weighting does to log p(y | x).

    python benchmarks/exact_em.py [--seeds 0 1 2] [--steps 20]

A trajectory is two tokens z after the question's token, an answer is one token after z, all from a vocabulary of six:
p(y | x) is an exact sum over 36 trajectories. The E-step takes all of them, each with its probability times its weight;
the M-step minimises the loss of the trainer. Nothing is sampled, so what differs is the weighting alone:

* `paper`: p(y | x, z), normalised over the trajectories of a question;
* `reference-v1`: 4 p(y | x, z)^(1 / tokens), not normalised;
* `rft`: 1 where the answer's likeliest token is right, else 0;
* `uniform`: 1.

Prints a table and writes benchmarks/results/exact_em.json.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path

import torch
from page import insert_table, rows
from transformers import LlamaConfig, LlamaForCausalLM

from exsearch.config import TrainingConfig
from exsearch.files import write_text
from exsearch.training.example import Example
from exsearch.training.learner import TorchLearner
from exsearch.training.loss import WeightedLoss
from exsearch.training.ranks import Ranks
from exsearch.training.trainer import accumulate_gradient

RESULT = Path(__file__).parent / "results" / "exact_em.json"
TOKENS = 6
QUESTIONS = {0: 3, 1: 5, 2: 3}
"""The token of each question and that of its answer."""
PATHS = list(itertools.product(range(TOKENS), repeat=2))
WEIGHTINGS = ("paper", "reference-v1", "rft", "uniform")
ALONE = Ranks(0, 1, "cpu")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    curves = {name: [run(name, seed, options.steps) for seed in options.seeds] for name in WEIGHTINGS}
    result = {"steps": options.steps, "seeds": options.seeds, "optimum": 0.0, "log_likelihood": curves}
    write_text(RESULT, json.dumps(result) + "\n")
    lines = [
        [
            name,
            *(f"{statistics.mean(curve[at] for curve in curves[name]):.3f}" for at in (0, 1, 5, options.steps)),
            lowered(curves[name]),
        ]
        for name in WEIGHTINGS
    ]
    table = rows(
        ["weighting", "at first", "1 step", "5 steps", f"{options.steps} steps", "steps that lowered it"], lines
    )
    print(table)
    insert_table("exact-em", table)


def lowered(curves: list[list[float]]) -> str:
    """Say how many steps lowered the likelihood."""
    steps = [after < before - 1e-4 for curve in curves for before, after in itertools.pairwise(curve)]
    return f"{sum(steps)} of {len(steps)}"


def run(weighting: str, seed: int, steps: int) -> list[float]:
    """Return the mean of log p(y | x) over the questions, before any step and after each."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
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
    reached = [likelihood(model)]
    for _ in range(steps):
        m_step(model, e_step(model, weighting))
        reached.append(likelihood(model))
    return reached


@torch.no_grad()
def joint(model: LlamaForCausalLM, x: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log p(z | x), log p(y | x, z) and whether y is the likeliest answer, for all z."""
    model.set_attn_implementation("sdpa")  # training sets its own
    ids = torch.tensor([[x, *z, QUESTIONS[x]] for z in PATHS])
    logprobs = model(ids).logits.log_softmax(dim=-1)
    steps = logprobs[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    return steps[:, :2].sum(dim=1), steps[:, 2], logprobs[:, 2].argmax(dim=1) == QUESTIONS[x]


def likelihood(model: LlamaForCausalLM) -> float:
    """Return the mean of log p(y | x) over the questions, exact."""
    found = [torch.logsumexp(search + answer, dim=0) for search, answer, _ in (joint(model, x) for x in QUESTIONS)]
    return float(torch.stack(found).mean())


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
    mass = sum(example.weight for example in examples)

    def loss() -> float:
        optimiser.zero_grad()
        sums = accumulate_gradient(learner, examples, config, ALONE)
        return (sums.search_nll + sums.answer_nll) / mass

    optimiser.step(loss)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
