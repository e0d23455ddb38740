"""What the verbs `warmup` and `learn` have in common: train, log beside the checkpoint, report."""

import json
from contextlib import nullcontext
from pathlib import Path

import click

from exsearch.config import Config, TrainingConfig
from exsearch.locks import sole_writer
from exsearch.training.example import Example
from exsearch.training.logged import train_logged
from exsearch.training.ranks import is_first


def run_training(
    base: Path,
    examples: list[Example],
    out: Path,
    training: TrainingConfig,
    config: Config,
    label: str,
    as_json: bool,
) -> None:
    """Train `base` on `examples` into the folder `out`, with metrics in `out`.metrics.jsonl."""
    with sole_writer(out) if is_first() else nullcontext():
        metrics = train_logged(base, examples, out, training, config.model, config.tracking, config.seed, label)
    if not is_first():
        return
    if as_json:
        click.echo(json.dumps({"checkpoint": str(out), "examples": len(examples), "metrics": str(metrics)}))
    else:
        click.echo(f"{out}: checkpoint after {len(examples)} trajectories; figures in {metrics}")
