"""DeepSpeed's JSON file: the settings that it may have besides those that the trainer decides itself."""

from pathlib import Path
from typing import Any

from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json

OURS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "optimizer", "scheduler")
"""The trainer's own settings; the file may omit them or set them to `auto`."""


def read_zero_settings(path: str) -> dict[str, Any]:
    """Return the settings without those set to `auto`. Raises UsageError if the file contradicts the trainer."""
    settings = _without_auto(read_json(Path(path), dict[str, Any]))
    for key in OURS:
        if key in settings:
            raise UsageError(f"{path}: {key} is decided by the trainer's own settings; remove it or set it to auto")
    if settings.get("fp16", {}).get("enabled"):
        raise UsageError(f"{path}: fp16 is not supported; use bf16 or float32")
    stage = settings.get("zero_optimization", {}).get("stage")
    if stage not in (2, 3):
        raise UsageError(f"{path}: zero_optimization.stage must be 2 or 3, not {stage}")
    return settings


def zero_fingerprint(path: str) -> str:
    """Return a fingerprint of the file's content; empty if no file is named."""
    return fingerprint(read_zero_settings(path)) if path else ""


def _without_auto(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_auto(value) if isinstance(value, dict) else value
        for name, value in tree.items()
        if value != "auto"
    }
