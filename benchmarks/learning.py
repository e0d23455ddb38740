"""Does EM learn? Runs the quickstart with several seeds and pools the paired differences.

    python benchmarks/learning.py --seeds 1 2 3 --out runs/learning

Each seed has its own world, questions and samples. Prints a table and writes benchmarks/results/learning.json: for
each seed exact match of every model on the held-out test questions with intervals, the paired difference between
the last EM iteration and the warm-up, the rise of p(y | x, z) on training questions, and the time; then the
difference pooled over all seeds' questions. The last iteration is compared, not the best: nothing is selected.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from page import command_line

from exsearch.core.atomic import write_text
from exsearch.core.jsonl import read_json
from exsearch.evaluation.bootstrap import paired_difference
from exsearch.evaluation.scores import read_scores
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary

RESULT = Path(__file__).parent / "results" / "learning.json"


def main() -> None:
    """Run what is not run yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    runs, before, after = [], [], []
    for seed in options.seeds:
        root = options.out / f"seed-{seed}"
        start = time.monotonic()
        overrides = [word for override in options.overrides for word in ("--set", override)]
        command = ["quickstart", "--seed", str(seed), "--out", str(root), *overrides]
        subprocess.run([sys.executable, "-m", "exsearch.cli.main", *command], check=True)
        run, warm, last = collect(seed, root)
        runs.append({**run, "wall_seconds": round(time.monotonic() - start)})
        before += warm
        after += last
    result = {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in ("exsearch", "torch", "transformers")},
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "runs": runs,
        "pooled_difference": msgspec.to_builtins(paired_difference(before, after)),
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    show(result)


def collect(seed: int, root: Path) -> tuple[dict[str, Any], list[float], list[float]]:
    """Return the figures of one run, and the exact match of each question before and after EM."""
    folder = RunLayout(root)
    summary = read_json(folder.summary, RunSummary)
    scores = {name: read_scores(folder.test_eval(name)) for name in summary.models}
    warm, last = ([row.em for row in scores[name].questions] for name in ("warmup", summary.models[-1]))
    run = {
        "seed": seed,
        "protocol": scores["warmup"].protocol,
        "models": summary.models,
        "em": {name: msgspec.to_builtins(score.figures["em"]) for name, score in scores.items()},
        "f1": {name: msgspec.to_builtins(score.figures["f1"]) for name, score in scores.items()},
        "difference": msgspec.to_builtins(paired_difference(warm, last)),
        "train_answer_probability": msgspec.to_builtins(summary.train_answer_probability),
        "iterations": msgspec.to_builtins(summary.iterations),
        "seconds": summary.seconds,
    }
    return run, warm, last


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    for run in result["runs"]:
        print(f"seed {run['seed']}, {run['wall_seconds']} s")
        for name in run["models"]:
            em, probability = run["em"][name], run["train_answer_probability"].get(name)
            train = f"   train p(y|x,z) {probability['mean']:.2f}" if probability else ""
            print(f"  {name:12} EM {em['mean']:.3f} [{em['low']:.3f}, {em['high']:.3f}] n = {em['n']}{train}")
        print(f"  difference   {span(run['difference'])}")
    print(f"pooled difference {span(result['pooled_difference'])}")


def span(figure: dict[str, Any]) -> str:
    """Format a figure with its interval."""
    return f"{figure['mean']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}] n = {figure['n']}"


if __name__ == "__main__":
    main()
