"""Progress: a bar on a terminal, elsewhere a plain line now and then."""

import sys
import time

import pytest

from exsearch.core.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that time.monotonic returns, to be set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_rate_counts_only_what_this_process_has_done(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("explore", total=100, done=40) as bar:
        clock[0] += 20
        bar.advance(10, "loss 0.5")
        clock[0] += 5
        bar.advance(1)  # too soon for another line
        clock[0] += 15
        bar.advance(49)
    assert capsys.readouterr().err.splitlines() == [
        "  explore: 50/100, 0.5/s, 100 s left loss 0.5",
        "  explore: 100/100, 40 s",
    ]


def test_no_rate_is_told_before_anything_is_done(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("explore", total=100, done=40) as bar:
        clock[0] += 20
        bar.advance(0, "12 searches")
    assert capsys.readouterr().err == "  explore: 40/100 12 searches\n"


def test_a_bar_shows_a_name_with_brackets_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("reading [v2] [/x].jsonl", total=1) as bar:
        bar.advance(1, "[/note]")
    assert "reading [v2] [/x].jsonl" in capsys.readouterr().err
