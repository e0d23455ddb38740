"""The report of a run folder: complete, self-contained, safe, and small."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from exsearch.agent.trajectory import FOLDED, Step, Trajectory
from exsearch.cli.view import view
from exsearch.core.atomic import remove, write_text
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_json, write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.questions.question import Question
from exsearch.report import collect as collecting
from exsearch.report import e_steps, passages
from exsearch.report.collect import flatten
from exsearch.report.e_steps import histogram
from exsearch.report.losses import loss_curves
from exsearch.report.write import write_report
from exsearch.runs.reader import Logged
from exsearch.runs.weighted import Weighted
from made_up_run import MODELS, make_run, summary

EVIL = '</script><img src=x onerror="alert(1)"><!-- <b>bold</b> & \u2028'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


def page_of(run: Path) -> str:
    target = write_report(run)
    assert target == run / "report.html"
    return target.read_text(encoding="utf-8")


def embedded(page: str) -> str:
    [content] = re.findall(r'<script type="application/json" id="run-data">(.*?)</script>', page, re.DOTALL)
    return str(content)


def data_of(page: str) -> Any:
    return json.loads(embedded(page))


def test_the_page_holds_the_run(run: Path) -> None:
    data = data_of(page_of(run))
    assert data["title"] == "Quickstart: a small world"
    assert data["fingerprint"] == "f" * 16
    assert [model["name"] for model in data["models"]] == MODELS
    assert len(data["questions"]) == 20
    warmup = data["models"][2]
    assert warmup["figures"]["em"]["n"] == 20
    assert [score["em"] for score in warmup["scores"]] == [
        float(run_["answer"] == question["answers"][0]) if "answer" in run_ else 0.0
        for run_, question in zip(warmup["trajectories"], data["questions"], strict=True)
    ]
    assert data["comparison"]["difference"]["mean"] == 0.17
    assert [curve["stage"] for curve in data["losses"]] == ["warmup", "iter-1/learn", "iter-2/learn"]
    assert data["warnings"] == [] and data["notices"] == []


def test_hits_point_to_passages_that_are_held_once(run: Path) -> None:
    data = data_of(page_of(run))
    keys = [(id_, text) for id_, _, text in data["passages"]]
    assert len(keys) == len(set(keys))
    [original] = [
        attempt
        for attempt in read_jsonl(run / "eval" / "iter-2" / "trajectories.jsonl", Trajectory)
        if attempt.question_id == data["questions"][3]["id"]
    ]
    shown = data["models"][4]["trajectories"][3]
    assert [step["query"] for step in shown["steps"]] == [step.query for step in original.steps]
    assert [[data["passages"][row] for row, _ in step["hits"]] for step in shown["steps"]] == [
        [[hit.passage.id, hit.passage.title, hit.passage.text] for hit in step.hits] for step in original.steps
    ]
    assert shown["own_tokens"] == sum(original.loss_mask)


def test_the_samples_carry_their_weights(run: Path) -> None:
    [first, _] = data_of(page_of(run))["e_steps"]
    assert first["k"] == 4 and first["total"] == len(first["explored"]) == 10
    assert sum(first["weights"]["counts"]) == 40
    assert sum(first["ess"]["counts"]) + first["skipped"] == 10
    for explored in first["explored"]:
        weights = [sample["weight"] for sample in explored["samples"]]
        assert sum(weights) == pytest.approx(1, abs=1e-3) or explored["ess"] is None
        assert [sample["trajectory"]["sample"] for sample in explored["samples"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("folded", [False, True])
def test_branches_are_no_samples_of_their_own(tmp_path: Path, folded: bool) -> None:
    run = make_run(tmp_path / "run", test=2, train=2, branches=2)
    for name in ("trajectories", "weights") if folded else ():
        path = run / "iter-2" / f"{name}.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        earlier = [line | {"sample": line["sample"] + FOLDED * line.pop("branch", 0)} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in earlier), encoding="utf-8")
    first, second = data_of(page_of(run))["e_steps"]
    assert [(each["k"], each["largest"]) for each in (first, second)] == [(4, 4), (4, 6)]
    trajectories = [sample["trajectory"] for sample in second["explored"][0]["samples"]]
    assert [(one["sample"], one.get("branch", 0)) for one in trajectories] == [
        (0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (3, 0)
    ]  # fmt: skip
    assert [one.get("share", 1) for one in trajectories] == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1, 1], abs=1e-4)


def test_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    page = page_of(run)
    shell = page.replace(embedded(page), "")
    assert not re.search(
        r"""(src|href|action)\s*=(?!"data:,")""",
        re.sub(r"<script>.*?</script>", "", shell, flags=re.DOTALL),
    )
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(|innerHTML|insertAdjacentHTML|eval\(", shell)
    assert re.findall(r"https?://[^\s\"']+", shell) == ["http://www.w3.org/2000/svg"]


def test_the_policy_allows_exactly_the_pages_own_script_and_style(run: Path) -> None:
    page = page_of(run)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none';") and "unsafe" not in policy[1]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy[1]


def test_text_of_the_run_cannot_become_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=2, train=2)
    questions = [
        msgspec.structs.replace(question, text=EVIL)
        for question in read_jsonl(run / "questions" / "test.jsonl", Question)
    ]
    write_jsonl(run / "questions" / "test.jsonl", questions)
    path = run / "eval" / "iter-2" / "trajectories.jsonl"
    hit = Hit(Passage("{{script}}", EVIL, EVIL), 1.0, 1)
    attempts = [
        msgspec.structs.replace(attempt, steps=[Step(EVIL, [hit], EVIL)], answer=EVIL)
        for attempt in read_jsonl(path, Trajectory)
    ]
    write_jsonl(path, attempts)
    write_json(run / "summary.json", summary(2, 2) | {"title": EVIL})
    page = page_of(run)
    assert "<img" not in page and "<!--" not in page
    assert page.count("</script>") == 2 and page.count("<script") == 2
    data = data_of(page)
    assert data["title"] == EVIL and data["questions"][0]["text"] == EVIL
    assert ["{{script}}", EVIL, EVIL] in data["passages"]


PARTS = [
    "config.toml",
    "protocol.json",
    "questions",
    "metrics.jsonl",
    "eval",
    "eval/iter-1",
    "iter-1",
    "iter-2/weights.jsonl",
    "summary.json",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_leaves_the_rest(tmp_path: Path, part: str) -> None:
    run = make_run(tmp_path / "run", test=3, train=2)
    remove(run / part)
    data = data_of(page_of(run))
    assert data["e_steps"]
    assert bool(data["questions"]) == (part != "eval")
    if part == "summary.json":
        assert [model["name"] for model in data["models"]] == MODELS
        assert [iteration["questions"] for iteration in data["iterations"]] == [2, 2]
        assert "summary.json is absent" in data["notices"][0]
    if part == "questions":
        assert data["questions"][0]["text"] == data["questions"][0]["id"]
    if part == "eval/iter-1":
        assert data["notices"] == ["No scores yet for iter-1."]


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "summary.json"])
def test_any_landmark_alone_makes_a_page(run: Path, tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, (run / name).read_text(encoding="utf-8"))
    assert data_of(page_of(tmp_path))["questions"] == []


def test_a_journal_that_is_being_written_is_read_up_to_its_torn_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=3, train=2)
    path = run / "iter-2" / "trajectories.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    remove(run / "iter-2" / "weights.jsonl")
    last = data_of(page_of(run))["e_steps"][1]
    assert sum(len(explored["samples"]) for explored in last["explored"]) == 7
    assert last["weights"] is None


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=2, train=2)
    path = run / "iter-1" / "weights.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(UsageError, match=r"weights\.jsonl, line 1"):
        write_report(run)


def test_scores_of_another_protocol_are_pointed_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=2, train=2)
    path = run / "eval" / "iter-2" / "scores.json"
    path.write_text(path.read_text(encoding="utf-8").replace("f" * 16, "0" * 16), encoding="utf-8")
    assert "iter-2 (0000000000000000)" in data_of(page_of(run))["warnings"][0]


def test_secrets_of_the_config_are_masked(run: Path) -> None:
    page = page_of(run)
    assert "sk-very-secret" not in page
    assert ["model.api_key", "(hidden)"] in data_of(page)["config"]
    assert flatten({"turn_tokens": 48, "hf_token": "x", "token": ""}) == [
        ("turn_tokens", "48"),
        ("hf_token", "(hidden)"),
        ("token", ""),
    ]


def test_five_models_on_a_hundred_questions_fit_in_five_megabytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=100, train=60, k=8, passages=3000)
    size = write_report(run).stat().st_size
    assert 500_000 < size < 5_000_000


def test_larger_runs_are_capped_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MAX_QUESTIONS", 5)
    monkeypatch.setattr(e_steps, "MAX_SAMPLES", 24)
    monkeypatch.setattr(passages, "MAX_PASSAGE", 100)
    data = data_of(page_of(make_run(tmp_path / "run", test=8, train=6)))
    assert len(data["questions"]) == 5 and len(data["models"][0]["trajectories"]) == 5
    assert [len(round_["explored"]) for round_ in data["e_steps"]] == [3, 3]
    assert sum(data["e_steps"][0]["weights"]["counts"]) == 24
    assert data["models"][0]["figures"]["em"]["n"] == 8
    notices = " ".join(data["notices"])
    assert "first 5 of 8 test questions" in notices and "first 3 of 6 training questions" in notices
    assert "passages are shortened" in notices
    assert max(len(text) for _, _, text in data["passages"]) <= 104


def test_a_step_logged_twice_counts_once_and_long_curves_are_thinned() -> None:
    lines = [Logged("warmup", step, float(step)) for step in range(700)]
    lines += [Logged("warmup", 0, 9.0), Logged("iter-1/explore", None, None)]
    [curve] = loss_curves(lines)
    assert curve.averaged == 3 and len(curve.step) == 234
    assert curve.step[0] == 1.0 and curve.loss[0] == pytest.approx((9 + 1 + 2) / 3)
    assert curve.search_loss[0] is None


def test_unnormalised_weights_get_a_wider_scale(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=2, train=2)
    path = run / "iter-1" / "weights.jsonl"
    write_jsonl(path, [msgspec.structs.replace(record, weight=3.5) for record in list(read_jsonl(path, Weighted))])
    first = data_of(page_of(run))["e_steps"][0]
    assert first["top_weight"] == 4 and first["weights"]["edges"][-1] == 4
    assert first["weights"]["counts"][17] == 8
    assert [explored["ess"] for explored in first["explored"]] == [4, 4]


def test_histogram_counts_each_value_once() -> None:
    assert histogram([0.0, 0.05, 0.1, 0.3, 1.0], 0.0, 1.0, 10).counts == [2, 1, 0, 1, 0, 0, 0, 0, 0, 1]


def test_the_command_prints_the_path(run: Path) -> None:
    result = CliRunner().invoke(view, [str(run)])
    assert result.exit_code == 0 and result.output == f"{run / 'report.html'}\n"
    result = CliRunner().invoke(view, [str(run), "--json"])
    assert json.loads(result.output)["report"] == str(run / "report.html")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        write_report(tmp_path / "absent")
    assert not list(tmp_path.iterdir())
