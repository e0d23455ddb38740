"""metrics.jsonl: a stage that continues writes its lines once."""

from pathlib import Path

from exsearch.core.jsonl import read_jsonl
from exsearch.logs.metrics_log import MetricsLog


def lines(path: Path) -> list[tuple[str, int]]:
    return [(str(line["stage"]), int(str(line["step"]))) for line in read_jsonl(path, dict[str, object])]


def test_rewinding_drops_the_later_lines_of_one_stage_alone(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append("learn", step, loss=1.0 / step)
    log.append("seconds", 0, learn=3.5)
    log.append("eval", 7, em=0.5)
    log.rewind("learn", 2)
    assert lines(log.path) == [("learn", 1), ("learn", 2), ("seconds", 0), ("eval", 7)]
    log.append("learn", 3, loss=0.1)
    assert next(line for line in read_jsonl(log.path, dict[str, object]) if line["stage"] == "learn")["loss"] == 1.0
    log.rewind("learn", 0)
    assert lines(log.path) == [("seconds", 0), ("eval", 7)]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("learn", 1, loss=1.0)
    log.append("learn", 2, loss=0.5)
    log.path.write_bytes(log.path.read_bytes()[:-4])
    log.rewind("learn", 1)
    assert lines(log.path) == [("learn", 1)]
    log.append("learn", 2, loss=0.5)
    assert lines(log.path) == [("learn", 1), ("learn", 2)]


def test_rewinding_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.rewind("learn", 0)
    assert not log.path.exists()
