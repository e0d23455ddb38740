"""A training run outside an EM loop: its figures next to the checkpoint, and in the trackers."""

from pathlib import Path

from exsearch.config import TrackingConfig
from exsearch.logs.metrics_log import MetricsLog
from exsearch.logs.tracking import IDENTITY, open_mirrors
from exsearch.training.job import Job
from exsearch.training.ranks.ranks import is_first
from exsearch.training.start import train


def train_logged(job: Job, tracking: TrackingConfig) -> Path:
    """Train as start.py does, with the figures in OUTPUT.metrics.jsonl; return that path."""
    output, label = job.output, job.label
    identity = output.with_name(f"{output.name}.{IDENTITY}")
    mirrors = open_mirrors(tracking, output.parent, output.name, identity) if is_first() else []
    metrics = MetricsLog(output.with_name(f"{output.name}.metrics.jsonl"), mirrors)
    train(
        job,
        log=lambda step, figures: metrics.append(label, step, **figures),
        rewind=lambda step: metrics.rewind(label, step),
    )
    metrics.close()
    return metrics.path
