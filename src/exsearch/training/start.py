"""Starts training, in this process or on several ranks of this machine."""

import os
from collections.abc import Callable
from functools import partial

from exsearch.training.job import Job
from exsearch.training.ranks.launch import train_on_ranks
from exsearch.training.ranks.process import ENTRY
from exsearch.training.trainer import LogStep, train_job


def train(job: Job, log: LogStep, rewind: Callable[[int], None] = lambda step: None) -> None:
    """Fine-tune the checkpoint of a job on its weighted examples, and write the result to its output folder.

    An output finished from the same inputs is not changed; raises UsageError if it is from other inputs.

    Weights are trained in float32 and saved in the precision of the forward pass; with `keep_float32`, in both. `log`
    is called with the step (from 1) and its figures, and `rewind` with the step from which a resumed run continues.
    """
    several = job.config.ranks > 1 and "RANK" not in os.environ
    train_job(job, log, rewind, partial(train_on_ranks, entry=ENTRY) if several else None)
