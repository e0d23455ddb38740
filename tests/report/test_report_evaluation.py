"""The page of one evaluation and of two beside each other: complete, self-contained, safe."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from test_report import EVIL, data_of, embedded

from exsearch.agent.trajectory import Step, Trajectory
from exsearch.cli.compare import compare as command
from exsearch.cli.view import view
from exsearch.core.atomic import remove
from exsearch.core.jsonl import read_json, read_jsonl, write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.evaluation.compare import compare
from exsearch.evaluation.scores import Scores, write_scores
from exsearch.questions.question import Question
from exsearch.report import collect
from exsearch.report.write import write_comparison_report, write_report
from exsearch.runs.evaluations import read_evaluation
from made_up_run import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", test=20, train=2)


def beside(a: Path, b: Path, metric: str = "em", across: bool = False) -> str:
    before, after = read_evaluation(a), read_evaluation(b)
    target = a.parent / "both.html"
    write_comparison_report(before, after, compare(before, after, metric, across), target)
    return target.read_text(encoding="utf-8")


def test_the_page_of_an_evaluation_holds_its_figures_and_trajectories(run: Path) -> None:
    folder = run / "eval" / "iter-2"
    scores = read_json(folder / "scores.json", Scores)
    data = data_of(write_report(folder).read_text(encoding="utf-8"))
    assert (data["kind"], data["title"], data["fingerprint"]) == ("evaluation", "iter-2", "f" * 16)
    [model] = data["models"]
    assert model["figures"]["f1"] == msgspec.to_builtins(scores.figures["f1"])
    assert [score["em"] for score in model["scores"]] == [score.em for score in scores.questions]
    assert all(model["trajectories"]) and all(question["text"] != question["id"] for question in data["questions"])
    assert sum(model["searches"].values()) == 20
    assert sum(figure["n"] for figure in model["f1_by_hops"].values()) == 20
    assert ["k", "5"] in data["protocol"] and data["paired"] is None
    assert data["warnings"] == data["notices"] == []


def test_the_page_of_two_evaluations_marks_each_question_as_won_lost_or_even(run: Path) -> None:
    a, b = run / "eval" / "warmup", run / "eval" / "iter-2"
    data = data_of(beside(a, b, "f1"))
    assert (data["kind"], data["title"]) == ("comparison", "iter-2 against warmup")
    paired = data["paired"]
    assert [paired[each] for each in ("metric", "n")] == ["f1", 20]
    assert paired["wins"] + paired["losses"] + paired["ties"] == 20
    one, other = data["models"]
    for before, after, outcome in zip(one["scores"], other["scores"], paired["outcomes"], strict=True):
        assert outcome == {1: "win", -1: "loss", 0: "tie"}[(after["f1"] > before["f1"]) - (after["f1"] < before["f1"])]
    assert {each["metric"] for each in paired["differences"]} >= {"em", "f1", "searches"}


def test_two_evaluations_of_one_name_are_told_apart_by_their_folders(run: Path) -> None:
    other = make_run(run.parent / "other", test=20, train=2)
    data = data_of(beside(run / "eval" / "iter-1", other / "eval" / "iter-1"))
    assert [model["name"] for model in data["models"]] == [str(r / "eval" / "iter-1") for r in (run, other)]


def test_questions_that_differ_are_shown_where_not_all_can_be(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MAX_QUESTIONS", 3)
    data = data_of(beside(run / "eval" / "closed-book", run / "eval" / "iter-2"))
    assert len(data["questions"]) == len(data["models"][1]["trajectories"]) == 3
    assert set(data["paired"]["outcomes"]) <= {"win", "loss"}
    assert "first 3 of 20 questions" in data["notices"][0]
    alone = data_of(write_report(run / "eval" / "iter-2").read_text(encoding="utf-8"))
    assert len(alone["questions"]) == 3 and alone["models"][0]["figures"]["em"]["n"] == 20


def test_different_protocols_are_warned_of_and_shown_side_by_side(run: Path) -> None:
    path = run / "eval" / "iter-2"
    scores = msgspec.structs.replace(read_json(path / "scores.json", Scores), protocol="0" * 16)
    write_scores(path, scores)
    (path / "protocol.json").write_text(json.dumps({"fingerprint": "0" * 16, "k": 9, "grammar": "exsearch"}))
    data = data_of(beside(run / "eval" / "warmup", path, across=True))
    assert "iter-2 (0000000000000000)" in data["warnings"][0] and data["fingerprint"] is None
    assert ["k", "A: 5\nB: 9"] in data["protocol"] and ["grammar", "exsearch"] in data["protocol"]


def test_questions_of_only_one_of_the_two_are_left_out_and_the_page_says_so(run: Path) -> None:
    path = run / "eval" / "iter-2"
    scores = read_json(path / "scores.json", Scores)
    write_scores(path, msgspec.structs.replace(scores, questions=scores.questions[3:]))
    data = data_of(beside(run / "eval" / "warmup", path, across=True))
    assert len(data["questions"]) == data["paired"]["n"] == 17
    assert "over 17 questions that both answered; 3 of A and 0 of B are not compared" in data["notices"][0]


def test_text_of_an_evaluation_cannot_become_markup(run: Path) -> None:
    write_jsonl(
        run / "questions" / "test.jsonl",
        [
            msgspec.structs.replace(question, text=EVIL, type=EVIL)
            for question in list(read_jsonl(run / "questions" / "test.jsonl", Question))
        ],
    )
    for name in ("warmup", "iter-2"):
        path = run / "eval" / name / "trajectories.jsonl"
        hit = Hit(Passage("{{script}}", EVIL, EVIL), 1.0, 1)
        attempts = list(read_jsonl(path, Trajectory))
        write_jsonl(path, [msgspec.structs.replace(t, steps=[Step(EVIL, [hit], EVIL)], answer=EVIL) for t in attempts])
        scores = read_json(path.parent / "scores.json", Scores)
        write_scores(path.parent, msgspec.structs.replace(scores, name=f"{EVIL} {name}"))
    alone = write_report(run / "eval" / "iter-2").read_text(encoding="utf-8")
    both = beside(run / "eval" / "warmup", run / "eval" / "iter-2")
    for page in (alone, both):
        assert "<img" not in page and "<!--" not in page
        assert page.count("</script>") == 2 and page.count("<script") == 2
        assert data_of(page)["questions"][0]["text"] == EVIL
        shell = page.replace(embedded(page), "")
        assert re.findall(r"https?://[^\s\"']+", shell) == ["http://www.w3.org/2000/svg"]


def test_an_evaluation_without_questions_or_trajectories_has_a_page_of_its_figures(run: Path) -> None:
    folder = run / "eval" / "iter-2"
    remove(run / "questions")
    remove(folder / "trajectories.jsonl")
    data = data_of(write_report(folder).read_text(encoding="utf-8"))
    assert data["models"][0]["trajectories"] == [None] * 20
    assert data["questions"][0]["text"] == data["questions"][0]["id"]
    assert "there is no questions.jsonl" in data["notices"][0]


def test_the_commands_write_the_pages(run: Path, tmp_path: Path) -> None:
    folder = run / "eval" / "iter-1"
    result = CliRunner().invoke(view, [str(folder)])
    assert result.output == f"{folder / 'report.html'}\n"
    target = tmp_path / "new" / "both.html"
    result = CliRunner().invoke(command, [str(folder), str(run / "eval" / "iter-2"), "--report", str(target)])
    assert result.exit_code == 0 and result.output.splitlines()[-1] == str(target)
    assert data_of(target.read_text(encoding="utf-8"))["kind"] == "comparison"
