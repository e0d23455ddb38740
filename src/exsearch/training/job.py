"""A training run as a record that can be sent to the processes that share it."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from exsearch.config import LearnConfig, ModelConfig, TrainingConfig, WarmupConfig
from exsearch.training.example import Example


@dataclass(frozen=True)
class Job:
    """Everything that a training run depends on."""

    base: Path
    """Checkpoint folder."""
    examples: list[Example]
    output: Path
    """Checkpoint folder to write."""
    config: TrainingConfig
    model: ModelConfig
    seed: int
    label: str
    """Name in the progress bar, and for figures outside a run folder."""
    section: str
    """Section of the settings, with a dot; empty if their type does not determine it."""

    @classmethod
    def of(
        cls,
        base: Path,
        examples: list[Example],
        output: Path,
        config: TrainingConfig,
        model: ModelConfig,
        seed: int,
        label: str,
    ) -> "Job":
        """Return the job that trains `base` into `output`, with the settings of a warm-up, an M-step, or neither."""
        section = {WarmupConfig: "warmup.", LearnConfig: "learn."}.get(type(config), "")
        own = TrainingConfig(**{name: getattr(config, name) for name in TrainingConfig.__struct_fields__})
        return cls(base, examples, output, own, model, seed, label, section)


class RankReport(msgspec.Struct, frozen=True):
    """A report of a rank, one JSON line on its standard output: steps by the first rank only, an error by any rank."""

    step: int
    figures: dict[str, float] | None = None
    """Figures of the step; None if the run resumes after it."""
    error: str = ""
    """Why the rank ended early."""
    mistake: bool = False
    """Whether the error is the user's mistake."""


def write_job(file: IO[bytes], job: Job) -> None:
    """Write a job for processes that also have the file open."""
    file.write(msgspec.msgpack.encode(job, enc_hook=str))  # paths as text
    file.flush()


def read_job(descriptor: int) -> Job:
    """Read a job written by `write_job`; others may read it at the same time."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return msgspec.msgpack.decode(content, type=Job, dec_hook=lambda kind, text: kind(text))
