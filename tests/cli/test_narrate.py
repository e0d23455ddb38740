"""What is printed of a model's words and of passages: as it is, and nothing that steers the terminal."""

from pathlib import Path

import pytest

from exsearch.agent.episode import Episode
from exsearch.agent.trajectory import AliasScore, Step, StopReason, Trajectory
from exsearch.cli.ask import Narrator
from exsearch.cli.narrate import console, print_weights, render_trajectory
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.questions.question import Question
from exsearch.runs.folder import RunFolder
from exsearch.runs.weighted import Weighted

STRANGE = "[/INST] [bold]it\x1b[31m is\x07"
SHOWN = "[/INST] [bold]it [31m is"
QUESTION = Question("q", STRANGE, [STRANGE])
STEP = Step(STRANGE, [Hit(Passage(STRANGE, STRANGE, STRANGE), 1.0, 1)], STRANGE)
TRAJECTORY = Trajectory(
    question_id="q",
    sample=0,
    steps=[STEP],
    answer=STRANGE,
    stop_reason=StopReason.ANSWERED,
    token_ids=[],
    loss_mask=[],
    logprobs=[],
    answer_start=None,
    seed=0,
    model_fingerprint="m",
    index_fingerprint="i",
    alias_scores=[AliasScore(STRANGE, -1.0, 1)],
)


def test_an_answer_that_comes_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator()
    episode = Episode(QUESTION, 0, 0, None, None, 0, [STEP], STRANGE, StopReason.ANSWERED)  # type: ignore[arg-type]
    narrator.show(episode)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["record", "think", "search", "answer", "rests"]
    assert all(SHOWN in line for line in shown.splitlines())


def test_a_whole_trajectory_and_the_weights_of_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path)
    write_jsonl(run.questions("train"), [QUESTION])
    write_jsonl(run.trajectories("iter-1"), [TRAJECTORY])
    write_jsonl(run.weights("iter-1"), [Weighted("q", 0, -1.0, 1.0, 1.0, 1.0, None)])
    console.print(render_trajectory(QUESTION, TRAJECTORY))
    print_weights(tmp_path, "iter-1")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown
    assert shown.count("[/INST]") == 10
