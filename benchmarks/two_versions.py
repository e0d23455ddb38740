"""Engine and trainer of two versions of ExSearch on the embedded model, taking turns.

    git worktree add DIR COMMIT
    python benchmarks/two_versions.py DIR/src [--rounds 5] [--threads 2]

Each round runs the version before and this one, each in a process of its own, in an order that changes. The engine
generates and scores after 16 prompts of 40 to 340 tokens, which begin alike; the trainer makes two optimiser steps on
four trajectories of 500 tokens, two and two of which begin alike. Loading is not counted. Prints the
median of each rate and of the ratios of neighbours, with the smallest.
"""

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OWN = Path(__file__).parent.parent / "src"
BUILTIN = ("exsearch.engine.models.builtin", "exsearch.engine.builtin")


def of_either(name: str, *modules: str) -> Any:
    """Import a name from the first module that exists: the other version may be older than where it is now."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"no {name} in {', '.join(modules)}")


def main() -> None:
    """Measure in turns and report; or be one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="source folder of the other version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"engine": engine_rate(options.threads), "trainer": trainer_rate(options.threads)}))
        return
    rates: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    for number in range(options.rounds):
        sides = {"before": options.before, "after": OWN}
        for name in sorted(sides, reverse=number % 2 == 0):
            rates[name].append(run(sides[name], options.threads))
            print(number + 1, name, rates[name][-1], flush=True)
    for part in ("engine", "trainer"):
        before, after = ([rate[part] for rate in rates[name]] for name in ("before", "after"))
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        print(
            f"{part}: before {statistics.median(before):.2f}, after {statistics.median(after):.2f} tokens/s; "
            f"ratio {statistics.median(ratios):.3f}, smallest {min(ratios):.3f}"
        )


def run(source: Path, threads: int) -> dict[str, float]:
    """Run one side on the sources of a version."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "-", "--side", "--threads", str(threads)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def texts(count: int, shared: int, lengths: list[int]) -> list[list[int]]:
    """Return random token ids that begin alike."""
    words = random.Random(0)
    start = [words.randrange(1000, 40_000) for _ in range(shared)]
    return [start + [words.randrange(1000, 40_000) for _ in range(lengths[n % len(lengths)])] for n in range(count)]


def engine_rate(threads: int) -> float:
    """Return the tokens per second that the engine generates and scores, prompts included."""
    import torch

    from exsearch.config import ModelConfig
    from exsearch.engine.base import Sampling
    from exsearch.engine.batch import generate, logprobs

    engine_class = of_either("HFEngine", "exsearch.engine.hf.engine", "exsearch.engine.hf")
    resolve_model = of_either("resolve_model", *BUILTIN)
    torch.set_num_threads(threads)
    folder = resolve_model("builtin:smollm2-135m")
    try:
        from exsearch.engine.spec import EngineSpec

        settings = ModelConfig(device="cpu", precision="fp32")
        engine = engine_class.load(EngineSpec(folder, settings, 4096, 16, fingerprint="two-versions"))
    except ImportError:  # the other version may be one from before
        load: Any = engine_class.load
        engine = load(folder, "two-versions", torch.float32, "cpu", 16)
    generate(engine, texts(16, 4, [8]), Sampling(2, []), [0] * 16)
    prompts = texts(16, 40, [1, 100, 200, 300])
    start = time.monotonic()
    completions = generate(engine, prompts, Sampling(32, []), list(range(16)))
    logprobs(engine, [p + c.token_ids for p, c in zip(prompts, completions, strict=True)], texts(16, 0, [8]))
    seconds = time.monotonic() - start
    engine.shut_down()
    return (sum(map(len, prompts)) + 16 * 40) / seconds


def trainer_rate(threads: int) -> float:
    """Return the tokens per second that the trainer learns from, each trajectory counted whole."""
    import torch

    from exsearch.config import LearnConfig
    from exsearch.training.example import Example
    from exsearch.training.loss import WeightedLoss
    from exsearch.training.trainer import accumulate_gradient, load_for_training

    resolve_model = of_either("resolve_model", *BUILTIN)
    learner_class = of_either("TorchLearner", "exsearch.training.learners.learner", "exsearch.training.learner")
    ranks_class = of_either("Ranks", "exsearch.training.ranks.ranks", "exsearch.training.ranks")
    torch.set_num_threads(threads)
    config, ranks = LearnConfig(), ranks_class(0, 1, "cpu")
    model, _ = load_for_training(resolve_model("builtin:smollm2-135m"), config, 0)
    learner = learner_class(WeightedLoss(model, config), config, ranks, torch.float32, sharded=False)
    ids = [*texts(2, 250, [250]), *texts(2, 249, [251])]
    examples = [Example(one, [0] * 200 + [1] * (len(one) - 200), len(one) - 10) for one in ids]
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        accumulate_gradient(learner, examples, config, ranks)
        learner.step(1e-5)
        seconds.append(time.monotonic() - start)
    return sum(map(len, ids)) * 2 / sum(seconds[1:])


if __name__ == "__main__":
    main()
