"""All inputs of a training run, as recorded in its checkpoint and its resume points."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exsearch.config import TrainingConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json
from exsearch.core.messages import logger
from exsearch.effects import EARLIER
from exsearch.hardware.devices import pick_dtype
from exsearch.training.job import Job
from exsearch.training.learners.zero_settings import zero_fingerprint
from exsearch.training.saving import JOB, start_fingerprint

_FIELDS = {field.name: field.type for field in msgspec.structs.fields(TrainingConfig)}
SAME_RESULT = {
    "ranks": 1,
    "sharding": "none",
    "micro_batch_tokens": 1,
    "gradient_checkpointing": False,
    "save_steps": 1,
}
"""Settings without effect on results (see `effects.py`), each at the value used for it in fingerprints."""
_LATER = {key.partition(".")[2]: value for key, value in EARLIER.items() if key.partition(".")[2] in _FIELDS}
"""Settings that earlier versions did not have, with the behaviour of those versions."""
_Earlier = msgspec.defstruct("_Earlier", [(name, kind) for name, kind in _FIELDS.items() if name not in _LATER])
"""The settings that they had: if the others have those versions' behaviour, the fingerprint is the one they computed.
"""


@dataclass(frozen=True)
class Inputs:
    """What a training run starts from, without the settings that do not change results."""

    parts: dict[str, Any]
    """Settings, and fingerprints of the rest, by the names used in messages."""
    job: str
    """Fingerprint of all of it."""
    earlier: str
    """Fingerprint by earlier versions, which used only the name of DeepSpeed's file, and ignored `save_steps` even
    where it decides when the validation loss is computed."""

    @classmethod
    def of(cls, job: Job) -> "Inputs":
        """Read the inputs of a training run. Raises UsageError if the file of DeepSpeed's settings is missing."""
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
        """Return what a checkpoint records of it."""
        return {"job": self.job, "inputs": self.parts}

    def require_same(self, output: Path) -> None:
        """Raise UsageError, naming what differs, if the checkpoint in `output` was trained from anything else."""
        recorded = read_json(output / JOB, dict[str, Any])
        if recorded.get("job") in (self.job, self.earlier):
            return
        parts = recorded.get("inputs") or {}
        parts = _LATER | parts if parts else {}
        differing = [
            f"{name} = {parts[name]} there, {value} here"
            for name, value in self.parts.items()
            if name in parts and parts[name] != value
        ]
        names = f" ({', '.join(differing)})" if differing else ""
        raise UsageError(f"{output}: has a model trained from other inputs or settings{names}; choose another folder")

    def resume_points(self, folder: Path) -> Path:
        """Return the folder in `folder` for this run's resume points; print on stderr if those of other runs are
        ignored."""
        for job in (self.job, self.earlier):
            if (folder / job).exists():
                return folder / job
        if folder.exists():
            logger.warning(f"  {folder}: its resume points are of other inputs or settings; starting over")
        return folder / self.job


def _as_known(config: TrainingConfig) -> msgspec.Struct:
    """Return settings in the form of an earlier version, if they ask for that version's behaviour."""
    values = msgspec.structs.asdict(config)
    if any(values[name] != value for name, value in _LATER.items()):
        return config
    return _Earlier(**{name: value for name, value in values.items() if name not in _LATER})
