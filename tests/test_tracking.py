"""Figures of metrics.jsonl shown in other trackers, each the real one where it is installed."""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from exsearch.config import TrackingConfig
from exsearch.errors import UsageError
from exsearch.metrics_log import MetricsLog
from exsearch.tracking import open_mirrors


def log_two_steps(tmp_path: Path, tracker: str) -> None:
    config = msgspec.convert({"report_to": [tracker], "project": "test"}, TrackingConfig)
    metrics = MetricsLog(tmp_path / "metrics.jsonl", open_mirrors(config, tmp_path, "a-run"))
    metrics.append("iter-1/learn", 1, loss=2.0, grad_norm=0.5)
    metrics.append("iter-1/learn", 2, loss=1.0, grad_norm=0.25)
    metrics.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [2.0, 1.0]


@pytest.mark.needs("tensorboard")
def test_tensorboard_gets_a_scalar_for_each_figure(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_two_steps(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "a-run"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("iter-1/learn/loss")]
    assert found == [(1, 2.0), (2, 1.0)]


@pytest.mark.needs("wandb")
def test_wandb_works_offline_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_two_steps(tmp_path, "wandb")
    [record] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"iter-1/learn/loss" in record.read_bytes()


@pytest.mark.needs("trackio")
def test_trackio_keeps_the_figures_in_its_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    log_two_steps(tmp_path, "trackio")
    assert any(b"iter-1/learn/loss" in path.read_bytes() for path in (tmp_path / "trackio").rglob("*.db*"))


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"report_to = wandb: .*; pip install wandb"):
        open_mirrors(TrackingConfig(report_to=["wandb"]), tmp_path, "a-run")
