"""Mirrors a run's metrics.jsonl to trackers: trackio, Weights & Biases, TensorBoard.

The file is authoritative. Its lines are numbered from 1, and each is shown once, however often the run is started: each
start adds the lines that a tracker lacks, and continues the same run in the tracker.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import msgspec

from exsearch.config import TrackingConfig
from exsearch.core.atomic import make_folder
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json

IDENTITY = "tracking.json"
"""File in the run folder with the id by which the trackers know the run."""


class Line(msgspec.Struct, frozen=True):
    """One line of metrics.jsonl."""

    number: int
    stage: str
    step: int
    figures: dict[str, float]


class Mirror(Protocol):
    """One tracker. It is opened with the first line; nothing is created before."""

    def replay(self, lines: Sequence[Line]) -> None:
        """Show the whole file as it is now; lines that are shown already are not shown twice."""
        ...

    def append(self, line: Line) -> None:
        """Show one more line."""
        ...

    def close(self) -> None:
        """Write what is still buffered."""
        ...


def open_mirrors(config: TrackingConfig, folder: Path, name: str, identity: Path | None = None) -> list[Mirror]:
    """Return the trackers of `report_to`, with their files, if they have any, in `folder`. Raises UsageError.

    `name` is the run's name if the settings have none; the file `identity`, by default in `folder`, keeps the id by
    which the trackers know the run.
    """
    name = config.name or name
    run_identity = _Identity(identity or folder / IDENTITY)
    kinds: dict[str, Callable[[], Mirror]] = {
        "trackio": lambda: _trackio(config.project, name, run_identity),
        "wandb": lambda: _wandb(config.project, name, run_identity, folder),
        "tensorboard": lambda: _Events(_imported("torch.utils.tensorboard"), folder / "tensorboard" / name),
    }
    return [kinds[kind]() for kind in config.report_to]


class _Identity:
    """The id of a run, drawn when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def id(self) -> str:
        if self._path.exists():
            return read_json(self._path, dict[str, str])["id"]
        id_ = secrets.token_hex(4)
        write_json(self._path, {"id": id_})
        return id_


class _Runs:
    """trackio and wandb: `log` takes a line's figures and its number."""

    def __init__(self, start: Callable[[], tuple[Any, int]]) -> None:
        """Take a function that starts a run, and returns it with the number of its last line."""
        self._start = start
        self._run: Any = None
        self._shown = 0

    def replay(self, lines: Sequence[Line]) -> None:
        """Log what the run lacks. Lines taken back from the file are written again with equal content, and stay."""
        for line in lines:
            self.append(line)

    def append(self, line: Line) -> None:
        """Log the figures under their stage, which has steps of its own."""
        if self._run is None:
            self._run, self._shown = self._start()
        if line.number > self._shown:
            figures = {f"{line.stage}/{name}": value for name, value in {"step": line.step, **line.figures}.items()}
            self._run.log(figures, step=line.number)
            self._shown = line.number

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


class _Events:
    """TensorBoard."""

    def __init__(self, library: ModuleType, folder: Path) -> None:
        self._library, self._folder = library, folder
        self._writer: Any = None

    def replay(self, lines: Sequence[Line]) -> None:
        """Start a new file of events, which replaces all earlier ones, with these lines."""
        self.close()
        self._writer = self._library.SummaryWriter(str(self._folder), purge_step=0)
        for line in lines:
            self.append(line)

    def append(self, line: Line) -> None:
        """Add a scalar for each figure, at the step of its stage."""
        if self._writer is None:
            self._writer = self._library.SummaryWriter(str(self._folder))
        for name, value in line.figures.items():
            self._writer.add_scalar(f"{line.stage}/{name}", value, line.step)

    def close(self) -> None:
        """Flush the event file."""
        if self._writer is not None:
            self._writer.close()


def _trackio(project: str, name: str, identity: _Identity) -> Mirror:
    library = _imported("trackio")

    def start() -> tuple[Any, int]:
        # runs are identified only by name, and folders of the same name would share one
        own = f"{name}-{identity.id()}"
        try:
            run = library.init(project=distinct(project), name=own, resume="allow", embed=False)
        except ValueError as error:
            raise UsageError(f"tracking.project = {project}: trackio does not accept this name ({error})") from None
        return run, getattr(run, "_next_step", 0) - 1  # there is no public attribute for the last step

    return _Runs(start)


def distinct(project: str) -> str:
    """Return a name of the project for trackio, which drops all characters but letters, digits, `-` and `_`.

    Projects that differ only in other characters would share a database.
    """
    letters = "".join(letter for letter in project if letter.isalnum() or letter in "-_")
    return project if letters == project else f"{project}-{fingerprint(project)[:6]}"


def _wandb(project: str, name: str, identity: _Identity, folder: Path) -> Mirror:
    library = _imported("wandb")

    def start() -> tuple[Any, int]:
        make_folder(folder)
        # without a key, wandb would prompt for one on the terminal
        mode = os.environ.get("WANDB_MODE") or ("online" if library.api.api_key else "offline")
        run = library.init(project=project, name=name, id=identity.id(), resume="allow", dir=folder, mode=mode)
        # offline, it does not know earlier starts: each has a complete folder
        return run, run.step - 1

    return _Runs(start)


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.rpartition(".")[2]
        raise UsageError(f"report_to = {name}: {error}; pip install {name}") from None
