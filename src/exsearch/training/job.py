"""A training run as a record that travels to the processes that share it."""

import mmap
from dataclasses import dataclass
from typing import IO

import msgspec

from exsearch.config import ModelConfig, TrainingConfig
from exsearch.training.example import Example


@dataclass(frozen=True)
class Job:
    """All that a run depends on."""

    base: str
    """Checkpoint folder."""
    examples: list[Example]
    output: str
    config: TrainingConfig
    model: ModelConfig
    seed: int
    label: str
    section: str
    """Of the settings, with a dot."""


class Report(msgspec.Struct, frozen=True):
    """What a rank reports, one JSON line on its standard output: steps the first rank alone, an error any of them."""

    step: int
    figures: dict[str, float] | None = None
    """Of the step; None where the run continues behind it."""
    error: str = ""
    """Why it ended early."""
    mistake: bool = False
    """Whether that is the user's."""


def write_job(file: IO[bytes], job: Job) -> None:
    """Write a job for processes that have the file open, too."""
    file.write(msgspec.msgpack.encode(job))
    file.flush()


def read_job(descriptor: int) -> Job:
    """Read what `write_job` wrote; others may do so at the same time."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return msgspec.msgpack.decode(content, type=Job)
