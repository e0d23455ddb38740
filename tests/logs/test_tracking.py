"""Figures of metrics.jsonl shown in other trackers, each the real one where it is installed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.config import TrackingConfig
from exsearch.core.errors import UsageError
from exsearch.logs.metrics_log import MetricsLog
from exsearch.logs.tracking import distinct, open_mirrors

STAGE = "iter-1/learn"
SCRIPT = """
import os, signal, sys
from pathlib import Path
import msgspec
from exsearch.config import TrackingConfig
from exsearch.logs.metrics_log import MetricsLog
from exsearch.logs.tracking import open_mirrors

folder, tracker, first, last, kill = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
config = msgspec.convert({"report_to": [tracker], "project": "test"}, TrackingConfig)
metrics = MetricsLog(folder / "metrics.jsonl", open_mirrors(config, folder, "a-run"))
metrics.rewind("iter-1/learn", first - 1)
for step in range(first, last + 1):
    metrics.append("iter-1/learn", step, loss=1 / step)
if kill:
    os.kill(os.getpid(), signal.SIGKILL)
metrics.close()
"""
"""One start of a run: it continues with the step `first` and ends, or is killed, after the step `last`."""


def start(folder: Path, tracker: str, first: int, last: int, kill: bool = False) -> None:
    words = [sys.executable, "-c", SCRIPT, str(folder), tracker, str(first), str(last), str(int(kill))]
    environment = os.environ | {"WANDB_MODE": "offline", "TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr


def mirrors(folder: Path, tracker: str, project: str = "test") -> MetricsLog:
    config = msgspec.convert({"report_to": [tracker], "project": project}, TrackingConfig)
    return MetricsLog(folder / "metrics.jsonl", open_mirrors(config, folder, "a-run"))


@pytest.mark.needs("tensorboard")
def test_tensorboard_gets_a_scalar_for_each_figure_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(tmp_path, "tensorboard", 1, 4, kill=True)
    start(tmp_path, "tensorboard", 3, 5)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "a-run"))
    events.Reload()
    assert [(event.step, round(event.value, 4)) for event in events.Scalars(f"{STAGE}/loss")] == [
        (step, round(1 / step, 4)) for step in (1, 2, 3, 4, 5)
    ]


@pytest.mark.needs("tensorboard")
def test_tensorboard_shows_a_step_once_that_is_taken_back_within_a_start(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = mirrors(tmp_path, "tensorboard")
    for step in (1, 2, 3):
        metrics.append("warmup/learn", step, loss=9.0)
    for step in (1, 2, 3):
        metrics.append(STAGE, step, loss=2.0)
    metrics.rewind(STAGE, 1)
    metrics.append(STAGE, 2, loss=1.0)
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "a-run"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars(f"{STAGE}/loss")] == [(1, 2.0), (2, 1.0)]
    assert [event.step for event in events.Scalars("warmup/learn/loss")] == [1, 2, 3]


@pytest.mark.needs("wandb")
def test_wandb_has_one_run_however_often_it_is_started(tmp_path: Path) -> None:
    for folder in ("once", "twice"):
        (tmp_path / folder).mkdir()
    start(tmp_path / "once", "wandb", 1, 5)
    start(tmp_path / "twice", "wandb", 1, 3, kill=True)
    start(tmp_path / "twice", "wandb", 3, 5)
    [whole] = (tmp_path / "once").glob("wandb/offline-run-*/run-*.wandb")
    records = sorted((tmp_path / "twice").glob("wandb/offline-run-*/run-*.wandb"))
    id = json.loads((tmp_path / "twice" / "tracking.json").read_text())["id"]
    assert [record.name for record in records] == [f"run-{id}.wandb"] * 2
    key = f"{STAGE}/loss".encode()
    told = [record.read_bytes().count(key) for record in (whole, records[-1])]
    assert told[0] == told[1] >= 5, "offline the folder of the last start is whole"


@pytest.mark.needs("trackio")
def test_trackio_has_one_run_with_each_line_once_however_often_it_is_started(tmp_path: Path) -> None:
    start(tmp_path, "trackio", 1, 3, kill=True)
    start(tmp_path, "trackio", 2, 4)
    start(tmp_path, "trackio", 5, 6)
    [(name, steps)] = trackio_runs(tmp_path / "trackio" / "test.db").items()
    assert name == f"a-run-{json.loads((tmp_path / 'tracking.json').read_text())['id']}"
    assert steps == Counter(range(1, 7))


def trackio_runs(database: Path) -> dict[str, Counter[int]]:
    """How often each run has each step of the stage."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, metrics FROM metrics").fetchall()
    found: dict[str, Counter[int]] = {}
    for name, metrics in rows:
        found.setdefault(name, Counter())[json.loads(metrics)[f"{STAGE}/step"]] += 1
    return found


@pytest.mark.needs("trackio")
def test_runs_of_one_name_in_other_folders_are_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        start(tmp_path / folder, "trackio", 1, 2)
    ids = {json.loads((tmp_path / folder / "tracking.json").read_text())["id"] for folder in ("one", "two")}
    assert len(ids) == 2


@given(st.text(min_size=1), st.text(min_size=1))
def test_projects_of_different_names_stay_different_in_trackio(one: str, other: str) -> None:
    def cleaned(project: str) -> str:
        return "".join(letter for letter in project if letter.isalnum() or letter in "-_").rstrip()

    assert (cleaned(distinct(one)) == cleaned(distinct(other))) == (one == other)
    assert distinct("qwen2.5-1.5b") != distinct("qwen2.5-15b") and distinct("my-project_2") == "my-project_2"


@pytest.mark.needs("trackio")
def test_trackio_keeps_projects_apart_whose_names_differ_by_a_dot(tmp_path: Path) -> None:
    projects = {"qwen2.5-1.5b": 1, "qwen2.5-15b": 2}
    for project, last in projects.items():
        folder = tmp_path / project
        folder.mkdir()
        script = SCRIPT.replace('"project": "test"', f'"project": {project!r}')
        environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
        words = [sys.executable, "-c", script, str(folder), "trackio", "1", str(last), "0"]
        subprocess.run(words, env=environment, check=True, capture_output=True)
    databases = [trackio_runs(path) for path in (tmp_path / "trackio").glob("*.db")]
    assert sorted(len(steps) for runs in databases for steps in runs.values()) == [1, 2]
    assert len(databases) == 2


class _Wandb(SimpleNamespace):
    """Stands for wandb: it remembers with what it was started, and what each of its runs was told."""

    def __init__(self, online: bool) -> None:
        super().__init__(api=SimpleNamespace(api_key="key" if online else None))
        self.started: list[dict[str, Any]] = []
        self.runs: dict[str, dict[int, dict[str, float]]] = {}

    def init(self, **settings: Any) -> SimpleNamespace:
        self.started.append(settings)
        run = self.runs.setdefault(settings["id"], {})

        def log(figures: dict[str, float], step: int) -> None:
            assert step not in run, "a step is told once"
            run[step] = figures

        return SimpleNamespace(step=max(run, default=-1) + 1, log=log, finish=lambda: None)


def test_a_run_goes_on_in_wandb_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    library = _Wandb(online=True)
    monkeypatch.setitem(sys.modules, "wandb", library)
    metrics = mirrors(tmp_path, "wandb")
    assert not (tmp_path / "tracking.json").exists() and not library.started, "nothing is opened before a line"
    for step in (1, 2, 3):
        metrics.append(STAGE, step, loss=1 / step)
    metrics.close()
    again = mirrors(tmp_path, "wandb")
    again.rewind(STAGE, 2)
    for step in (3, 4):
        again.append(STAGE, step, loss=1 / step)
    [run] = library.runs.values()
    assert {number: figures[f"{STAGE}/step"] for number, figures in run.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    assert len(library.started) == 2
    for settings in library.started:
        assert (settings["resume"], settings["mode"], settings["id"]) == ("allow", "online", *library.runs)


def test_what_a_tracker_lacks_of_the_file_is_shown_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MetricsLog(tmp_path / "metrics.jsonl").append("seconds", 0, closed_book=3.5)
    library = _Wandb(online=True)
    monkeypatch.setitem(sys.modules, "wandb", library)
    mirrors(tmp_path, "wandb").append(STAGE, 1, loss=2.0)
    assert list(library.runs.values()) == [
        {1: {"seconds/step": 0, "seconds/closed_book": 3.5}, 2: {f"{STAGE}/step": 1, f"{STAGE}/loss": 2.0}}
    ]


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"report_to = wandb: .*; pip install wandb"):
        open_mirrors(TrackingConfig(report_to=["wandb"]), tmp_path, "a-run")
