"""The figures of wiki_mini.py, as its JSON has them."""

import importlib.metadata
import os
import statistics
from typing import Any

import msgspec
from page import command_line
from wiki_mini_questions import BySet

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_jsonl
from exsearch.em.loop import EMRun
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.scores import Scores
from exsearch.hardware.devices import pick_device
from exsearch.runs.records import RunSummary

METRICS = ("em", "f1", "acc", "recall", "searches", "tokens")


def about(run: EMRun, summary: RunSummary, protocol: str, one_shot: int) -> dict[str, Any]:
    """Return how the figures were made; `one_shot` is the number of questions the one-shot model learns from."""
    config = run.config
    return {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in ("exsearch", "torch", "transformers")},
        "machine": f"{len(os.sched_getaffinity(0))} cores, {config.model.engine} on {pick_device(config.model)}",
        "seed": config.seed,
        "learned_from": {
            "warm-up": len(list(read_jsonl(run.folder.warmup_trajectories, Trajectory))),
            "explored an iteration": len(run.questions_of(1)),
            "samples a question": config.explore.samples,
            "one-shot": one_shot,
        },
        "trajectory": _lengths(run),
        "chosen": summary.best,
        "protocol": protocol,
        "seconds": summary.seconds,
        "iterations": msgspec.to_builtins(summary.iterations),
    }


def figures(made: dict[str, Any], found: dict[str, Scores], dev: BySet) -> dict[str, Any]:
    """Return the figures of all systems, and how the agent differs from them, after how they were made."""
    models = {name: _by_set(scores, dev) for name, scores in found.items()}
    by_question = {name: [round(row.f1, 4) for row in scores.questions] for name, scores in found.items()}
    compared = {metric: _differences(found, made["chosen"], metric) for metric in ("f1", "recall")}
    return {**made, "models": models, "differences": compared, "f1_by_question": by_question}


def show(result: dict[str, Any]) -> None:
    """Print the figures over all questions."""
    for name, sets in result["models"].items():
        cells = [f"{metric} {100 * sets['all'][metric]['mean']:5.1f}" for metric in ("em", "f1", "acc", "recall")]
        print(f"{name:>24}  {'  '.join(cells)}  searches {sets['all']['searches']['mean']:.1f}")
    for name, one in result["differences"]["f1"].items():
        print(f"{name:>44}  F1 {100 * one['mean']:+5.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]")


def _by_set(scores: Scores, dev: BySet) -> dict[str, Any]:
    """Return the figures of each data set and of all of them together."""
    rows = {row.question_id: row for row in scores.questions}
    sets = {**dev, "all": [question for questions in dev.values() for question in questions]}
    return {
        name: {
            metric: msgspec.to_builtins(
                figure([float(value) for q in asked if (value := getattr(rows[q.id], metric)) is not None])
            )
            for metric in METRICS
        }
        for name, asked in sets.items()
    }


def _lengths(run: EMRun) -> dict[str, float]:
    """Return means over the first iteration's trajectories: tokens, those that the model said, searches, bytes."""
    file = run.folder.trajectories("iter-1")
    explored = list(read_jsonl(file, Trajectory))
    return {
        "tokens": statistics.mean(len(each.token_ids) for each in explored),
        "said": statistics.mean(sum(each.loss_mask) for each in explored),
        "searches": statistics.mean(len(each.steps) for each in explored),
        "bytes": file.stat().st_size / len(explored),
    }


def _differences(found: dict[str, Scores], chosen: str, metric: str) -> dict[str, Any]:
    """Return the paired differences of the chosen model and of the last one from all others."""
    values = {
        name: [float(value) for row in scores.questions if (value := getattr(row, metric)) is not None]
        for name, scores in found.items()
    }
    last = [name for name in found if name.startswith("iter-") and "," not in name][-1]
    return {
        f"{mine} - {other}": msgspec.to_builtins(paired_difference(values[other], values[mine]))
        for mine in dict.fromkeys((chosen, last))
        for other in values
        if other != mine
    }
