"""What the verbs `warmup` and `learn` have in common: train, log beside the checkpoint, report."""

import json
from pathlib import Path

import click

from exsearch.config import Config, TrainingConfig
from exsearch.metrics_log import MetricsLog
from exsearch.tracking import open_mirrors
from exsearch.training.example import Example
from exsearch.training.ranks import is_first
from exsearch.training.trainer import train


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
    mirrors = open_mirrors(config.tracking, out.parent, out.name) if is_first() else []
    metrics = MetricsLog(out.with_name(f"{out.name}.metrics.jsonl"), mirrors)
    train(
        base,
        examples,
        out,
        training,
        config.model,
        config.seed,
        label,
        log=lambda step, figures: metrics.append(label, step, **figures),
        rewind=lambda step: metrics.rewind(label, step),
    )
    metrics.close()
    if not is_first():
        return
    if as_json:
        click.echo(json.dumps({"checkpoint": str(out), "examples": len(examples), "metrics": str(metrics.path)}))
    else:
        click.echo(f"{out}: checkpoint after {len(examples)} trajectories; figures in {metrics.path}")
