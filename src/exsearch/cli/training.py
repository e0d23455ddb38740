"""The common part of the verbs `warmup` and `learn`: train, log next to the checkpoint, report."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from exsearch.config import Config, TrainingConfig
from exsearch.core.locks import sole_writer
from exsearch.training.example import Example
from exsearch.training.logged import train_logged
from exsearch.training.ranks import is_first

if TYPE_CHECKING:
    from exsearch.em.replay import Source


def run_training(
    base: Path,
    examples: list[Example],
    out: Path,
    training: TrainingConfig,
    config: Config,
    label: str,
    as_json: bool,
    sources: "Sequence[Source]" = (),
) -> None:
    """Train `base` on `examples` into the folder `out`, with metrics in `out`.metrics.jsonl.

    `sources` describes the journals that the examples come from.
    """
    with sole_writer(out) if is_first() else nullcontext():
        metrics = train_logged(base, examples, out, training, config.model, config.tracking, config.seed, label)
    if not is_first():
        return
    if as_json:
        contributions = {"sources": msgspec.to_builtins(sources)} if sources else {}
        click.echo(
            json.dumps({"checkpoint": str(out), "examples": len(examples), "metrics": str(metrics), **contributions})
        )
        return
    if len(sources) > 1:
        whole = sum(source.weight for source in sources)
        for source in sources:
            click.echo(f"  {source.weight / whole:.0%} of the weight from {source.examples} of {source.name}")
    click.echo(f"{out}: checkpoint after {len(examples)} trajectories; figures in {metrics}")
