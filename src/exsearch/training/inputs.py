"""All that comes into a training run, as its checkpoint and its resume points remember it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exsearch.config import TrainingConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json
from exsearch.effects import EARLIER
from exsearch.hardware.devices import pick_dtype
from exsearch.training.job import Job
from exsearch.training.saving import JOB, start_fingerprint
from exsearch.training.zero_settings import zero_fingerprint

_FIELDS = {field.name: field.type for field in msgspec.structs.fields(TrainingConfig)}
SAME_RESULT = {
    "ranks": 1,
    "sharding": "none",
    "micro_batch_tokens": 1,
    "gradient_checkpointing": False,
    "save_steps": 1,
}
"""Settings that change no result, by `effects.py`, each at the value that stands for all in a fingerprint."""
_LATER = {key.partition(".")[2]: value for key, value in EARLIER.items() if key.partition(".")[2] in _FIELDS}
"""Settings that earlier versions did not have, with what those did."""
_Earlier = msgspec.defstruct("_Earlier", [(name, kind) for name, kind in _FIELDS.items() if name not in _LATER])
"""The settings that they had: where the others are at what those did, the fingerprint is the one that they gave."""


@dataclass(frozen=True)
class Inputs:
    """What a training run begins with, apart from the settings that change no result."""

    parts: dict[str, Any]
    """Settings, and fingerprints of the rest, by the names that a message calls them."""
    job: str
    """Fingerprint of all of it."""
    earlier: str
    """The one that earlier versions gave it: of DeepSpeed's file they took the name alone, and they left `save_steps`
    out also where it says when the validation loss is taken."""

    @classmethod
    def of(cls, job: Job) -> "Inputs":
        """Read what is to be trained. Raises UsageError for a file of DeepSpeed's settings that is not there."""
        examples, config, seed = job.examples, job.config, job.seed
        before = msgspec.structs.replace(config, **SAME_RESULT)
        now = msgspec.structs.replace(before, deepspeed=zero_fingerprint(config.deepspeed))
        if config.validation_share:
            now = msgspec.structs.replace(now, save_steps=config.save_steps)
        model, precision = start_fingerprint(job.base, config.keep_float32), str(pick_dtype(job.model))
        earlier = fingerprint([model, examples, _as_known(before), seed, precision])
        whole = earlier if now == before else fingerprint([model, examples, _as_known(now), seed, precision])
        settings = {name: value for name, value in msgspec.to_builtins(now).items() if name not in SAME_RESULT}
        if config.validation_share:
            settings["save_steps"] = config.save_steps
        others = {"seed": seed, "precision": precision.removeprefix("torch."), "model": model}
        return cls({**others, "examples": fingerprint(examples), **settings}, whole, earlier)

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"job": self.job, "inputs": self.parts}

    def require_same(self, output: Path) -> None:
        """Raise UsageError, which names what differs, if the checkpoint in `output` was trained from anything else."""
        kept = read_json(output / JOB, dict[str, Any])
        if kept.get("job") in (self.job, self.earlier):
            return
        parts = kept.get("inputs") or {}
        parts = _LATER | parts if parts else {}
        differing = [
            f"{name} = {parts[name]} there, {value} here"
            for name, value in self.parts.items()
            if name in parts and parts[name] != value
        ]
        named = f" ({', '.join(differing)})" if differing else ""
        raise UsageError(f"{output}: holds a model trained from other inputs or settings{named}; choose another folder")

    def resume_points(self, folder: Path) -> Path:
        """Return where in `folder` this run has its resume points; says on stderr that those of others are left."""
        for job in (self.job, self.earlier):
            if (folder / job).exists():
                return folder / job
        if folder.exists():
            print(f"  {folder}: its resume points are of other inputs or settings; begun anew", file=sys.stderr)
        return folder / self.job


def _as_known(config: TrainingConfig) -> msgspec.Struct:
    """Return settings as an earlier version knew them, if it did what these ask for."""
    values = msgspec.structs.asdict(config)
    if any(values[name] != value for name, value in _LATER.items()):
        return config
    return _Earlier(**{name: value for name, value in values.items() if name not in _LATER})
