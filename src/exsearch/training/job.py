"""A training run as a record that travels to the processes that share it."""

from dataclasses import dataclass
from pathlib import Path

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
    """What the first rank tells of the run, one JSON line on its standard output."""

    step: int
    figures: dict[str, float] | None = None
    """Of the step; None where the run continues behind it."""
    error: str = ""
    """Why it ended early."""
    mistake: bool = False
    """Whether that is the user's."""


def write_job(path: Path, job: Job) -> None:
    """Write a job for other processes."""
    path.write_bytes(msgspec.msgpack.encode(job))


def read_job(path: Path) -> Job:
    """Read what `write_job` wrote."""
    return msgspec.msgpack.decode(path.read_bytes(), type=Job)
