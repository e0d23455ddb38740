"""A training run as a record, which is sent to the processes that share it."""

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
    """Section of the settings, with a dot."""


class Report(msgspec.Struct, frozen=True):
    """A report of a rank, one JSON line on its standard output: steps by the first rank only, an error by any rank."""

    step: int
    figures: dict[str, float] | None = None
    """Figures of the step; None if the run resumes after it."""
    error: str = ""
    """Why it ended early."""
    mistake: bool = False
    """Whether that is the user's mistake."""


def write_job(file: IO[bytes], job: Job) -> None:
    """Write a job for processes that also have the file open."""
    file.write(msgspec.msgpack.encode(job))
    file.flush()


def read_job(descriptor: int) -> Job:
    """Read a job written by `write_job`; others may read it at the same time."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return msgspec.msgpack.decode(content, type=Job)
