"""Starts training, in this process or on several ranks of this machine."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from exsearch.config import LearnConfig, ModelConfig, TrainingConfig, WarmupConfig
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.launch import train_on_ranks
from exsearch.training.rank_process import ENTRY
from exsearch.training.trainer import LogStep, train_job


def train(
    base: Path,
    examples: list[Example],
    output: Path,
    config: TrainingConfig,
    model_config: ModelConfig,
    seed: int,
    label: str,
    log: LogStep,
    rewind: Callable[[int], None] = lambda step: None,
    section: str = "",
) -> None:
    """Fine-tune the checkpoint in `base` on weighted examples, and write the result to the folder `output`.

    A finished output of the same inputs is not changed; raises UsageError if it is of others.

    Weights are trained in float32 and saved in the precision of the forward pass; with `config.keep_float32`, in both.
    `log` is called with the step (from 1) and its figures, and `rewind` with the step from which a resumed run
    continues. `section` is the section of the settings, with a dot, if the type of `config` does not determine it.
    """
    section = section or {WarmupConfig: "warmup.", LearnConfig: "learn."}.get(type(config), "")
    config = TrainingConfig(**{name: getattr(config, name) for name in TrainingConfig.__struct_fields__})
    job = Job(str(base), examples, str(output), config, model_config, seed, label, section)
    several = config.ranks > 1 and "RANK" not in os.environ
    train_job(job, log, rewind, partial(train_on_ranks, entry=ENTRY) if several else None)
