"""What is each change of the M-step worth? One at a time, from one model and its rollouts, on several seeds.

    python benchmarks/em_steps.py --seeds 21 22 23

Each seed is a world, a warm-up, a first iteration with the M-step as it was before any of the changes, and the second
E-step: they are made once. Each variant then makes the second M-step, so that all learn from the same model and the
same rollouts, and what differs is the change. Between iterations, checkpoints are rounded to bfloat16, as on machines
that compute in it; only `float32 kept` starts from the weights before rounding. Exact match is greedy, on 300
questions per seed; differences are paired by question and pooled over the seeds.

The guard's error rates are resampled from all whole steps: how often a guard of n of these test questions would have
refused each, next to what exact match did on all of them.

Finished variants are kept in OUT/seed-S/VARIANT.json and not run again; an interrupted one resumes. Prints tables,
writes them into docs/lab/benchmarks.md, and the figures to benchmarks/results/.
"""

import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
from em_worlds import RESULTS, Model, difference, mean_of, prepare, scored, settings, share
from page import command_line, insert_table, interval, rows

from exsearch.config import ModelConfig
from exsearch.core.atomic import remove, replace_atomically, write_text
from exsearch.core.jsonl import read_json, write_json
from exsearch.em.guard import judge
from exsearch.em.loop import EMRun
from exsearch.em.replay import Rollouts
from exsearch.em.stage_times import StageTimes
from exsearch.runs.layout import RunLayout
from exsearch.training.blend import blend
from exsearch.training.saving import FLOAT32

BEFORE = {
    "learn.denominator": "batch",
    "learn.keep_float32": "false",
    "learn.max_grad_norm": "1.0",
    "learn.replay": "none",
    "loop.guard": "0",
}
"""The M-step before there were these settings."""
NEVER = "1e9"
"""A norm that no gradient has."""
VARIANTS: dict[str, dict[str, str]] = {
    "unchanged": {},
    "replay": {"learn.replay": "decay"},
    "constant denominator": {"learn.denominator": "expected"},
    "no gradient cut": {"learn.max_grad_norm": NEVER},
    "float32 kept": {"learn.keep_float32": "true"},
    "guard": {"loop.guard": "80"},
    "mean of two orders": {"learn.orders": "2"},
    "all but averaging": {
        "learn.denominator": "expected",
        "learn.keep_float32": "true",
        "learn.replay": "decay",
        "loop.guard": "80",
    },
    "replay by ratios": {"learn.replay": "ratios"},
    "constant denominator, no cut": {"learn.denominator": "expected", "learn.max_grad_norm": NEVER},
}
"""What each changes of BEFORE."""
BASE = ["warmup", "warmup-trajectories.jsonl", "iter-1", "iter-2"]
"""What all variants of a seed begin with."""
SIZES = (16, 40, 80, 120, 160)
"""Of the guards whose error rates are resampled."""
FALL = 0.03
"""Exact match; a step that falls or rises by more is called bad or good."""


class Base(msgspec.Struct, frozen=True):
    """The models that a seed's variants begin with."""

    warmup: Model
    first: Model
    """After the first iteration."""


class Change(msgspec.Struct, frozen=True):
    """A variant's M-step on one seed."""

    model: Model
    """The model after it; if the guard refused it, the one before."""
    seconds: dict[str, float]
    guard: list[dict[str, Any]]
    """What the guard tried."""
    guard_questions: int
    examples: int
    """Trajectories that were learned from."""


def main() -> None:
    """Run what is not done yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/em-steps"))
    parser.add_argument("--train", type=int, default=220, help="training questions of a run; others are tested on")
    parser.add_argument("--test", type=int, default=300, help="test questions per seed")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of all")
    options = parser.parse_args()
    bases: dict[int, Base] = {}
    found: dict[str, dict[int, Change]] = {variant: {} for variant in options.variants}
    for seed in options.seeds:
        bases[seed] = base_of(seed, options)
        for variant in options.variants:
            found[variant][seed] = change(seed, variant, options)
    result = report(bases, found)
    tables = {"em-changes": result["table"], "em-guard-errors": guard_errors(bases, found)}
    result |= {"command": command_line(), "cores": len(os.sched_getaffinity(0)), "seeds": options.seeds} | tables
    write_text(RESULTS / "em_steps.json", json.dumps(result, indent=1) + "\n")
    for name, table in tables.items():
        print(f"\n{table}")
        insert_table(name, table)


def say(line: str) -> None:
    """Print a line of a run."""
    print(f"  {line}", file=sys.stderr)


def base_of(seed: int, options: argparse.Namespace) -> Base:
    """Return the scores of a seed's models before the variants; make them if they are not there."""
    folder = options.out / f"seed-{seed}"
    root, done = RunLayout(folder / "base"), folder / "base.json"
    if done.exists():
        return read_json(done, Base)
    prepare(seed, folder, options.train, options.test)
    print(f"seed {seed}", file=sys.stderr)
    run = EMRun(settings(folder, seed, words({"learn.keep_float32": "true"}, options)), root.root, say)
    run.warm_up()
    run.assess("warmup")
    first = run.e_step("iter-1", 1, "warmup")
    if not is_rounded(root.checkpoint("iter-1")):
        run.m_step(first, {"iter-1": root.checkpoint("warmup")})
        round_weights(root.checkpoint("iter-1"))
    run.guarded("iter-1", "warmup")
    run.assess("iter-1")
    run.e_step("iter-2", 2, "iter-1")
    run.close()
    base = Base(scored(root, "warmup"), scored(root, "iter-1"))
    write_json(done, base)
    return base


def words(changed: dict[str, str], options: argparse.Namespace) -> list[str]:
    """Return the settings of a variant as words of the command line."""
    return [*(f"{key}={value}" for key, value in (BEFORE | changed).items()), *options.overrides]


def is_rounded(checkpoint: Path) -> bool:
    """Return whether the checkpoint exists, and is rounded."""
    return (checkpoint / FLOAT32).exists()


def round_weights(checkpoint: Path) -> None:
    """Round a checkpoint to bfloat16, and keep its float32 weights beside it, as training in bfloat16 leaves it."""
    rounded = checkpoint.with_name("rounded")
    blend([(checkpoint, 1.0)], rounded, ModelConfig(precision="bf16"), keep_float32=True)
    replace_atomically(rounded, checkpoint)


def change(seed: int, variant: str, options: argparse.Namespace) -> Change:
    """Return a variant's figures on a seed; make its M-step if it is not there."""
    folder = options.out / f"seed-{seed}"
    name = variant.replace(" ", "-").replace(",", "")
    done, root = folder / f"{name}.json", RunLayout(folder / name)
    if done.exists():
        return read_json(done, Change)
    if is_rounded(root.checkpoint("iter-2")):
        remove(root.root)  # an interrupted one that would not be recognised as trained here
    if not root.root.exists():
        share(folder / "base", root.root, BASE)
    print(f"seed {seed}: {variant}", file=sys.stderr)
    config = settings(folder, seed, words(VARIANTS[variant], options))
    run = EMRun(config, root.root, say)
    explorers = {"iter-1": root.checkpoint("warmup"), "iter-2": root.checkpoint("iter-1")}
    sources = run.m_step(Rollouts("iter-2", root.trajectories("iter-2"), root.weights("iter-2")), explorers)
    decision = run.guarded("iter-2", "iter-1")
    refused = decision is not None and decision.taken is None
    if not refused:
        round_weights(root.checkpoint("iter-2"))
        run.assess("iter-2")
    seconds = StageTimes(run.folder.metrics).total()
    run.close()
    made = Change(
        model=read_json(folder / "base.json", Base).first if refused else scored(root, "iter-2"),
        seconds=seconds,
        guard=[] if decision is None else msgspec.to_builtins(decision.tries),
        guard_questions=config.loop.guard,
        examples=sum(source.examples for source in sources),
    )
    write_json(done, made)
    for checkpoint in root.root.glob("*/checkpoint"):
        remove(checkpoint)
    remove(root.checkpoint("warmup"))
    return made


def report(bases: dict[int, Base], found: dict[str, dict[int, Change]]) -> dict[str, Any]:
    """Return all figures, and the table of changes."""
    lines, changes = [], {}
    reference = found.get("unchanged", {})
    for variant, by_seed in found.items():
        after = [em for change in by_seed.values() for em in change.model.em]
        before = [em for seed in by_seed for em in bases[seed].first.em]
        seconds = {
            stage: statistics.fmean(seconds_of(change, stage) for change in by_seed.values())
            for stage in ("learn", "guard", "reweigh")
        }
        changes[variant] = {
            "em": mean_of(after),
            "against_the_model_before": difference(before, after),
            "by_seed": {str(seed): msgspec.to_builtins(change) for seed, change in by_seed.items()},
        }
        if reference:
            same = [em for seed in by_seed for em in reference[seed].model.em]
            changes[variant]["against_the_unchanged_step"] = difference(same, after)
        falls = [
            statistics.fmean(change.model.em) - statistics.fmean(bases[seed].first.em)
            for seed, change in by_seed.items()
        ]
        lines.append(
            [
                variant,
                interval(changes[variant]["em"], 100),
                interval(changes[variant]["against_the_model_before"], 100, sign="+"),
                ", ".join(f"{100 * fall:+.1f}" for fall in falls),
                interval(changes[variant]["against_the_unchanged_step"], 100, sign="+")
                if reference and variant != "unchanged"
                else "",
                f"{statistics.fmean(p for change in by_seed.values() for p in change.model.probability):.3f}",
                f"{statistics.fmean(change.model.malformed for change in by_seed.values()):.1%}",
                f"{sum(seconds.values()):.0f}",
            ]
        )
    header = ["change", "exact match after, %", "against the model before", "by seed", "against the unchanged step"]
    header += ["mean p(y \\| x, z)", "malformed", "seconds"]
    for name, models in (
        ("after iteration 1", [base.first for base in bases.values()]),
        ("warm-up", [base.warmup for base in bases.values()]),
    ):
        em = [value for model in models for value in model.em]
        mean = statistics.fmean(p for model in models for p in model.probability)
        malformed = statistics.fmean(model.malformed for model in models)
        lines.insert(0, [f"*{name}*", interval(mean_of(em), 100), "", "", "", f"{mean:.3f}", f"{malformed:.1%}", ""])
    return {
        "bases": {str(seed): msgspec.to_builtins(base) for seed, base in bases.items()},
        "changes": changes,
        "table": rows(header, lines),
    }


def seconds_of(change: Change, stage: str) -> float:
    """Return the seconds of the stages of iteration 2 whose name begins so: an M-step may have several orders."""
    return sum(value for name, value in change.seconds.items() if name.startswith(f"iter-2/{stage}"))


def guard_errors(bases: dict[int, Base], found: dict[str, dict[int, Change]], draws: int = 2000) -> str:
    """Return how often guards of each size would refuse the whole steps, by what these did to exact match."""
    source = random.Random(0)
    kinds: dict[str, list[list[float]]] = {"bad": [], "neither": [], "good": []}
    steps = [(base.warmup, base.first) for base in bases.values()]
    made = [
        (bases[seed].first, change)
        for variant, by_seed in found.items()
        for seed, change in by_seed.items()
        if variant != "guard"  # whose whole step is the unchanged one
    ]
    steps += [(before, change.model) for before, change in made if not change.guard or change.guard[0]["taken"]]
    for before, after in steps:
        rise = statistics.fmean(after.em) - statistics.fmean(before.em)
        kind = "bad" if rise < -FALL else "good" if rise > FALL else "neither"
        kinds[kind].append([new - old for old, new in zip(before.probability, after.probability, strict=True)])
    rate = [
        seconds_of(change, "guard") / (change.guard_questions + sum(each["questions"] for each in change.guard))
        for by_seed in found.values()
        for change in by_seed.values()
        if change.guard and seconds_of(change, "guard")
    ]
    lines = []
    for size in SIZES:
        line = [str(size)]
        for differences in kinds.values():
            tries = [refused(source, each, size) for each in differences for _ in range(draws // len(differences))]
            line.append(f"{statistics.fmean(each[0] for each in tries):.0%}" if tries else "")
            line.append(f"{statistics.fmean(each[1] for each in tries):.0f}" if tries else "")
        line.append(f"{size * statistics.fmean(rate):.0f}" if rate else "")
        lines.append(line)
    header = ["questions"]
    header += [f"{kind} steps ({len(group)}) {what}" for kind, group in kinds.items() for what in ("refused", "asked")]
    return rows([*header, "seconds per try"], lines)


def refused(source: random.Random, differences: list[float], size: int) -> tuple[bool, int]:
    """Draw a guard of some questions; return whether it refuses the step, and how many it asks."""
    drawn = source.choices(differences, k=size)
    half = (size + 1) // 2
    early = judge(drawn[:half], size)
    return (not judge(drawn, size), size) if early is None else (not early, half)


if __name__ == "__main__":
    main()
