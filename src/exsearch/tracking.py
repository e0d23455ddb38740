"""Mirrors of a run's metrics.jsonl in the trackers that people look at: trackio, Weights & Biases, TensorBoard.

The file stays the truth: a resumed run takes lines back there, and shows them twice in a mirror.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from exsearch.config import TrackingConfig
from exsearch.errors import UsageError


class Mirror(Protocol):
    """One tracker."""

    def append(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Show the figures of a step of a stage."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


def open_mirrors(config: TrackingConfig, folder: Path, name: str) -> list[Mirror]:
    """Open the trackers of `report_to`, with their files, where they have some, in `folder`. Raises UsageError.

    `name` is that of the run where the settings have none.
    """
    name = config.name or name
    kinds = {"trackio": _trackio, "wandb": _wandb, "tensorboard": _tensorboard}
    return [kinds[kind](config.project, name, folder) for kind in config.report_to]


class _Runs:
    """trackio and wandb: `log` takes the figures of a step."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def append(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Log them under their stage, whose steps are its own."""
        self._run.log({f"{stage}/{name}": value for name, value in {"step": step, **figures}.items()})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class _Events:
    """TensorBoard."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def append(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Add a scalar for each figure."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


def _trackio(project: str, name: str, folder: Path) -> Mirror:
    return _Runs(_imported("trackio").init(project=project, name=name, resume="allow", embed=False))


def _wandb(project: str, name: str, folder: Path) -> Mirror:
    wandb = _imported("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    # without a key, wandb would ask for one on the terminal
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
    return _Runs(wandb.init(project=project, name=name, dir=folder, mode=mode))


def _tensorboard(project: str, name: str, folder: Path) -> Mirror:
    return _Events(_imported("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard" / name)))


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.rpartition(".")[2]
        raise UsageError(f"report_to = {name}: {error}; pip install {name}") from None
