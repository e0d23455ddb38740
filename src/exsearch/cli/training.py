"""The common part of the verbs `warmup` and `learn`: train, log next to the checkpoint, report."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click
import msgspec

from exsearch.config import TrackingConfig
from exsearch.core.locks import sole_writer
from exsearch.training.job import Job
from exsearch.training.logged import train_logged
from exsearch.training.ranks.ranks import is_first

if TYPE_CHECKING:
    from exsearch.em.replay import Contribution


def run_training(job: Job, tracking: TrackingConfig, as_json: bool, sources: "Sequence[Contribution]" = ()) -> None:
    """Do a training job, with metrics in OUTPUT.metrics.jsonl; `sources` are the journals of its examples."""
    out, count = job.output, len(job.examples)
    with sole_writer(out) if is_first() else nullcontext():
        metrics = train_logged(job, tracking)
    if not is_first():
        return
    if as_json:
        contributions = {"sources": msgspec.to_builtins(sources)} if sources else {}
        click.echo(json.dumps({"checkpoint": str(out), "examples": count, "metrics": str(metrics), **contributions}))
        return
    if len(sources) > 1:
        whole = sum(source.weight for source in sources)
        for source in sources:
            click.echo(f"  {source.weight / whole:.0%} of the weight from {source.examples} of {source.name}")
    click.echo(f"{out}: checkpoint after {count} trajectories; figures in {metrics}")
