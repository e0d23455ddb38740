"""Which questions a run explores, and which its guard holds out: none of them is ever learned from."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import Config, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.em.questions import RunQuestions, asked, hold_out_last, refuse_learned, require_files
from exsearch.questions.question import Question


def questions(*numbers: int, text: str = "What is number {}?") -> list[Question]:
    return [Question(f"q{n}", text.format(n), [f"the {n}th"]) for n in numbers]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    write_jsonl(tmp_path / "train.jsonl", questions(*range(20)))
    write_jsonl(tmp_path / "test.jsonl", questions(*range(100, 103)))
    return {"index": "i", "train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}


def configured(files: dict[str, str], *settings: str, **more: Any) -> Config:
    return parse_config({"data": files | more}, ["warmup.questions=4", "explore.questions=5", *settings], "test")


def test_the_guard_holds_out_the_last_training_questions(files: dict[str, str]) -> None:
    found = RunQuestions.read(configured(files, "loop.guard=6"))
    assert {question.id for question in found.guard} == {f"q{n}" for n in range(14, 20)}
    assert [question.id for question in found.pool] == [f"q{n}" for n in range(4, 14)]
    again = RunQuestions.read(configured(files, "loop.guard=6", "seed=5"))
    assert sorted(q.id for q in again.guard) == sorted(q.id for q in found.guard) and again.guard != found.guard
    assert found.splits().keys() == {"train", "test", "guard"}
    explored = [q.id for number in range(1, 5) for q in found.to_explore(number, 5, [False] * number)]
    assert not set(explored) & {question.id for question in found.guard}


def test_a_question_that_is_asked_twice_is_not_held_out() -> None:
    twice = [*questions(0, 1, 2), Question("again", "what IS  number 2?", ["2"]), *questions(3)]
    left, guard = hold_out_last(twice, twice, 2)
    assert [question.id for question in guard] == ["q1", "q3"]
    assert [question.id for question in left] == ["q0", "q2", "again"]
    with pytest.raises(UsageError, match=r"loop\.guard = 4: only 3 training questions can be held out"):
        hold_out_last(twice, twice, 4)


def test_a_guard_that_leaves_nothing_to_explore_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"the warm-up takes .* and the guard the last 16: none are left to explore"):
        RunQuestions.read(configured(files, "loop.guard=16"))


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        (questions(100, 30), r"1 of the guard's 2 questions are also learned from or tested on, the first 'q100'"),
        (questions(31, 3), r"the first 'q3'"),
        ([Question("x", " what is NUMBER 7?", ["7"]), *questions(31)], r"the first 'x'"),
        ([*questions(31), Question("warm", "What was it?", ["it"])], r"the first 'warm'"),
        (questions(31), r"1 questions, and loop\.guard = 2"),
    ],
    ids=["tested on", "learned from", "by its words", "warmed up with", "too few"],
)
def test_a_guard_that_overlaps_with_what_is_learned_is_refused(
    files: dict[str, str], tmp_path: Path, guard: list[Question], said: str
) -> None:
    write_jsonl(tmp_path / "guard.jsonl", guard)
    ready = Trajectory("warm", 0, [], "it", StopReason.ANSWERED, [], [], [], 0, 0, "m", "i")
    write_jsonl(tmp_path / "w.jsonl", [ready])
    named = {"guard": str(tmp_path / "guard.jsonl"), "warmup": str(tmp_path / "w.jsonl")}
    with pytest.raises(UsageError, match=said):
        RunQuestions.read(configured(files, "loop.guard=2", **named))


def test_a_named_guard_leaves_all_training_questions_to_learn_from(files: dict[str, str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "guard.jsonl", questions(31, 32, 33))
    found = RunQuestions.read(configured(files, "loop.guard=2", guard=str(tmp_path / "guard.jsonl")))
    assert {question.id for question in found.guard} == {"q31", "q32"}
    assert len(found.pool) == 16


def test_what_was_learned_from_cannot_guard() -> None:
    refuse_learned(questions(1, 2), ["q3"])
    with pytest.raises(UsageError, match="1 of the guard's questions were learned from, the first 'q2'"):
        refuse_learned(questions(1, 2), ["q2", "q3"])


@pytest.mark.parametrize(
    ("settings", "more", "said"),
    [
        ([], {}, "names no data.dev"),
        (["loop.guard=2"], {"test": ""}, "names no data.test"),
        ([], {"dev": "d", "guard": "g"}, "loop.guard = 0 uses none of its questions"),
    ],
)
def test_files_that_a_run_needs_are_missed_at_once(
    files: dict[str, str], settings: list[str], more: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        require_files(configured(files, *settings, **more))
    require_files(configured(files, "loop.guard=2"))


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=6))
def test_more_is_asked_after_each_refused_step_and_never_less(count: int, refused: list[bool]) -> None:
    counts = asked(count, refused)
    assert len(counts) == len(refused) + 1 and counts[0] == count
    for was_refused, before, after in zip(refused, counts, counts[1:], strict=False):
        assert after >= 1.5 * before if was_refused else after == before


@given(st.integers(1, 9), st.integers(1, 12), st.lists(st.booleans(), max_size=6))
def test_iterations_take_the_pool_in_turn_and_none_twice(size: int, count: int, refused: list[bool]) -> None:
    pool = questions(*range(size))
    found = RunQuestions([], [], [], pool, [])
    rows = [found.to_explore(number, count, refused[: number - 1]) for number in range(1, len(refused) + 2)]
    flat = [question.id for row in rows for question in row]
    assert flat == [f"q{n % size}" for n in range(len(flat))]
    assert all(len({question.id for question in row}) == len(row) for row in rows)
