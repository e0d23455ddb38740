"""A training run as a record, which travels from whoever wants it to the processes that share it."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from exsearch.config import LearnConfig, ModelConfig, TrainingConfig, WarmupConfig
from exsearch.training.example import Example


@dataclass(frozen=True)
class Job:
    """All that a run depends on."""

    base: Path
    """Checkpoint folder."""
    examples: list[Example]
    output: Path
    """Checkpoint folder to write."""
    config: TrainingConfig
    model: ModelConfig
    seed: int
    label: str
    """Of the progress bar, and of the figures that no run folder keeps."""
    section: str
    """Of the settings, with a dot; empty where their type does not say it."""

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
        """Return the job to train `base` into `output` by the settings of a warm-up, of an M-step, or of neither."""
        section = {WarmupConfig: "warmup.", LearnConfig: "learn."}.get(type(config), "")
        own = TrainingConfig(**{name: getattr(config, name) for name in TrainingConfig.__struct_fields__})
        return cls(base, examples, output, own, model, seed, label, section)


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
    file.write(msgspec.msgpack.encode(job, enc_hook=str))  # paths as text
    file.flush()


def read_job(descriptor: int) -> Job:
    """Read what `write_job` wrote; others may do so at the same time."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return msgspec.msgpack.decode(content, type=Job, dec_hook=lambda kind, text: kind(text))
