"""The leaderboard: records become tables in which only figures of one protocol stand beside each other."""

import datetime
import importlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_compare import ASKED, row, write

from exsearch.config import AgentConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.evaluation.scores import Figure

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("leaderboard")


def made(leaderboard: Any, system: str, f1: float, protocol: str = "a" * 16) -> Any:
    figures = {name: Figure(f1, f1 - 0.1, f1 + 0.1, 50) for name in ("em", "f1", "acc")}
    figures["searches"] = Figure(2.5, 2.25, 2.75, 50)
    return leaderboard.Record(
        system=system,
        model="m",
        training="none",
        command=f"exsearch eval {system}",
        seeds=[1],
        date=datetime.date(2025, 1, 2),
        data={"hotpotqa": leaderboard.Measured(protocol, figures)},
    )


def test_systems_of_one_protocol_share_a_table_the_best_first(leaderboard: Any) -> None:
    page = leaderboard.page([made(leaderboard, "low", 0.2), made(leaderboard, "high", 0.4)])
    assert page.count("## hotpotqa, protocol") == 1
    lines = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0] for line in lines] == ["| high", "| low"]
    assert "40.0 [30.0, 50.0]" in lines[0] and "2.50 [2.25, 2.75] | 50 | 1 | 2025-01-02" in lines[0]
    assert "exsearch eval low\n" in page


def test_systems_of_different_protocols_never_share_a_table(leaderboard: Any) -> None:
    page = leaderboard.page([made(leaderboard, "one", 0.2), made(leaderboard, "other", 0.4, "b" * 16)])
    [_, first, second] = page.split("## hotpotqa, protocol ")
    assert "| one |" in first and "| other |" not in first and "| other |" in second


def test_text_of_a_record_cannot_break_its_table(leaderboard: Any) -> None:
    page = leaderboard.page([made(leaderboard, "a | b\n<script>", 0.2)])
    assert "| a \\| b &lt;script> | m |" in page


def test_a_record_is_made_from_evaluations_and_averages_seeds_within_a_question(
    leaderboard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one", [row(q.id, 1) for q in ASKED])
    two = write(tmp_path / "two", [row(q.id, float(n < 4), recall=None) for n, q in enumerate(ASKED)])
    monkeypatch.setattr(leaderboard, "RESULTS", tmp_path)
    monkeypatch.setattr(leaderboard, "PAGE", tmp_path / "page.md")
    texts = [word for field in ("system", "model", "training", "command") for word in (f"--{field}", field)]
    data = ["--data", f"set={one}", "--data", f"set={two}"]
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", "add", "mine", *texts, *data, "--seeds", "1", "2"])
    leaderboard.main()
    figures = read_json(tmp_path / "results-mine.json", leaderboard.Record).data["set"].figures
    assert (figures["em"].mean, figures["em"].n) == (0.75, 8)
    assert 0.5 < figures["em"].low < 0.75 < figures["em"].high < 1
    assert (figures["recall"].mean, figures["recall"].n) == (0.5, 8)
    assert "| system | model | training | 75.0" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_evaluations_that_do_not_belong_together_make_no_record(leaderboard: Any, tmp_path: Path) -> None:
    one = write(tmp_path / "one", [row(q.id, 1) for q in ASKED])
    other = write(tmp_path / "other", [row(q.id, 1) for q in ASKED], agent=AgentConfig(passages=9))
    with pytest.raises(UsageError, match="different protocols"):
        leaderboard.measured([one, other])


def test_a_record_without_a_needed_figure_is_refused(leaderboard: Any, tmp_path: Path) -> None:
    record = msgspec.to_builtins(made(leaderboard, "s", 0.5))
    del record["data"]["hotpotqa"]["figures"]["acc"]
    write_json(tmp_path / "results-s.json", record)
    with pytest.raises(UsageError, match=r"results-s\.json: hotpotqa lacks acc"):
        leaderboard.read_records(tmp_path)


def test_the_page_is_that_of_the_committed_records(leaderboard: Any) -> None:
    page = leaderboard.page(leaderboard.read_records(leaderboard.RESULTS))
    assert leaderboard.PAGE.read_text(encoding="utf-8") == page, "run python benchmarks/leaderboard.py"
