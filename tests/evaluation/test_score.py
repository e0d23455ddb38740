"""`exsearch score`: anybody's predictions, under any normaliser, by a judge, and against others."""

import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.cli.score import score
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.engine.base import EngineError
from exsearch.engine.openai.endpoint import Endpoint
from exsearch.evaluation.judge import Verdict, judge
from exsearch.evaluation.predictions import match, read_predictions
from exsearch.questions.question import Question
from scripted_server import Asked, Reply, as_json, serving

QUESTIONS = [
    Question("q1", "After which war was the League of Nations founded?", ["World War I", "First World War"]),
    Question("q2", "Who succeeded Stephen as king of England?", ["Henry II"]),
    Question("q3", "Which band recorded Abbey Road?", ["The Beatles"]),
]
ANSWERS = {"q1": "World War II", "q2": "Henry III", "q3": "beatles"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    write_jsonl(path, QUESTIONS)
    return path


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def trajectory(id_: str, answer: str | None) -> Trajectory:
    reason = StopReason.ANSWERED if answer else StopReason.MAX_STEPS
    return Trajectory(id_, 0, [], answer, reason, [], [], [], None, 0, "model", "index")


FORMATS = {
    "prediction": lines(*({"id": i, "prediction": a} for i, a in ANSWERS.items())),
    "gold beside it": lines(*({"_id": i, "question": "?", "answer": "gold", "pred": a} for i, a in ANSWERS.items())),
    "gold list beside it": lines(*({"qid": i, "answer": ["gold"], "response": a} for i, a in ANSWERS.items())),
    "answer": lines(*({"query_id": i, "question": "?", "answer": a} for i, a in ANSWERS.items())),
    "MuSiQue": lines(
        *(
            {"id": i, "predicted_answer": a, "predicted_support_idxs": [0], "predicted_answerable": True}
            for i, a in ANSWERS.items()
        )
    ),
    "KILT": lines(*({"id": i, "output": [{"answer": a, "provenance": []}]} for i, a in ANSWERS.items())),
    "FlashRAG": json.dumps(
        [{"id": i, "golden_answers": ["gold"], "output": {"pred": a, "prompt": "?"}} for i, a in ANSWERS.items()]
    ),
    "HotpotQA": json.dumps({"answer": ANSWERS, "sp": {i: [] for i in ANSWERS}}),
    "SearchLM": json.dumps(
        {
            "score": {"em": 1.0},
            "output": [
                {"query_id": i, "question": "?", "answer": ["gold"], "prediction": a} for i, a in ANSWERS.items()
            ],
        },
        indent=2,
    ),
    "a table": json.dumps(ANSWERS, indent=1),
    "blank lines between": "\n" + lines({"id": "q1", "output": "World War II"}) + "\n\n"
    + lines({"id": "q2", "output": "Henry III"}, {"id": "q3", "output": "beatles"}),
}  # fmt: skip


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS.keys())
def test_everybodys_format_is_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(text)
    assert read_predictions(path).answers == ANSWERS


def test_our_own_trajectories_are_read_and_one_without_an_answer_is_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_jsonl(path, [trajectory("q1", "World War I"), trajectory("q2", None)])
    matched = match(read_predictions(path), QUESTIONS)
    assert matched.answers == ["World War I", None, None]
    assert (matched.unanswered, matched.missing, matched.extra) == (["q2"], ["q3"], [])


def test_numbers_are_texts_and_ids_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(lines({"id": 7, "prediction": 1984}, {"id": 8.0, "prediction": 1985.0}))
    assert read_predictions(path).answers == {"7": "1984", "8": "1985"}


def test_a_byte_order_mark_is_no_part_of_predictions(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    for text in (lines({"id": "q1", "pred": "x"}, {"id": "q2", "pred": "y"}), '{"q1": "x", "q2": "y"}'):
        path.write_text(text, encoding="utf-8-sig")
        assert read_predictions(path).answers == {"q1": "x", "q2": "y"}


@given(st.dictionaries(st.text(min_size=1), st.text().filter(lambda text: "<answer>" not in text), min_size=2))
def test_records_of_any_ids_and_answers_are_read_back(answers: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.jsonl"
        path.write_text(lines(*({"id": i, "prediction": a} for i, a in answers.items())))
        assert read_predictions(path).answers == answers


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no predictions"),
        ("[]", "no predictions"),
        ("{}", "no predictions"),
        ("3", "no predictions"),
        ("[3]", "no predictions"),
        ("not json", r"predictions.jsonl: not valid JSON \(column 1\)$"),
        ('[{"id": "q1",\n"pred": }]', r"not valid JSON \(line 2, column 9\)$"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": "q1", "pred": ' + "1" * 5000 + "}", "a number has more digits than are read"),
        (lines({"id": "q1", "pred": "x"}) + "{torn", r"line 2: not valid JSON \(column 2\)$"),
        (lines({"id": "q1", "pred": "x"}, {"id": "q1", "pred": "y"}), "line 2: a second prediction for 'q1'"),
        ('{"q1": "x", "q1": "y"}', "'q1' occurs twice"),
        (lines({"id": "q1", "pred": "x"}, {"id": "q2", "answer": "y"}), "line 2: .*do not mix formats"),
        (lines({"id": "q1", "pred": "x"}, {"_id": "q2", "pred": "y"}), "line 2: .*do not mix formats"),
        (lines({"id": "q1", "pred": "x"}) + "\n" + lines({"id": "q2", "pred": ["y"]}), "line 3.* not list"),
        (lines({"id": "q1", "output": [{"answer": "x"}, {"answer": "y"}]}), "not list"),
        (lines({"id": "q1", "pred": True}), "not bool"),
        ('{"id": "q1", "pred": NaN}', "nan is not an answer"),
        ('{"id": "q1", "pred": 1e999}', "inf is not an answer"),
        (lines({"id": None, "pred": "x"}), "not a string or a number"),
        ('{"id": NaN, "pred": "x"}', "not a string or a number"),
        (lines({"id": 1.5, "pred": "x"}), r"line 1: its id is 1.5; it must be a string or a whole number$"),
        (lines({"id": [1], "pred": "x"}), r"line 1: its id is of another kind; it must be"),
        (lines({"id": 1, "pred": "x"}, {"id": 1.0, "pred": "y"}), "line 2: a second prediction for '1'"),
        (lines({"id": "q1", "pred": "x"}).encode() + b'{"id": "\xff"}', r"not UTF-8 \(byte"),
        (lines({"id": "q1", "pred": "x"}).encode("utf-16"), "is written in UTF-16; save it as UTF-8$"),
        (gzip.compress(b'{"id": "q1", "pred": "x"}', mtime=0), r"is packed by gzip; unpack it first \(gunzip\)$"),
        (lines({"id": "q1", "text": "Who?", "answers": ["x"]}), "the first record has 'id', 'text', 'answers'"),
        (lines({"id": "q1", "answer": "x", "answer_aliases": []}), "gold answers, not predictions"),
        (lines({"id": "q1", "answer": ["x"]}), "not list"),
        (lines({"id": "q1", "response": "<think>so</think><answer>x</answer>"}), "<answer> tag"),
    ],
)
def test_a_file_whose_scores_would_be_wrong_is_refused_with_the_place(
    text: str | bytes, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=fault) as error:
        read_predictions(path)
    assert str(path) in str(error.value)


def test_a_whole_number_is_written_as_one(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(lines({"id": "q1", "pred": 1914.0}, {"id": "q2", "pred": 1914}, {"id": "q3", "pred": 0.5}))
    assert read_predictions(path).answers == {"q1": "1914", "q2": "1914", "q3": "0.5"}


def test_a_file_of_questions_with_their_answers_is_not_scored_as_predictions(tmp_path: Path) -> None:
    questions = [Question(f"q{n}", "Who?", [f"Name {n}", "x"]) for n in range(10)]
    path = tmp_path / "questions.jsonl"
    path.write_text(lines(*({"query_id": q.id, "question": q.text, "answer": q.answers[0]} for q in questions)))
    with pytest.raises(UsageError, match=r"questions\.jsonl: every 'answer' is a gold answer to the letter"):
        match(read_predictions(path), questions)
    of_kilt = [{"id": q.id, "input": q.text, "output": [{"answer": q.answers[0]}]} for q in questions]
    (tmp_path / "kilt.jsonl").write_text(lines(*of_kilt))
    with pytest.raises(UsageError, match=r"kilt\.jsonl: every 'output' is a gold answer to the letter"):
        match(read_predictions(tmp_path / "kilt.jsonl"), questions)
    written = [{"question_id": q.id, "answer": q.answers[0]} for q in questions]
    (tmp_path / "all-right.jsonl").write_text(lines(*written))
    assert match(read_predictions(tmp_path / "all-right.jsonl"), questions).answers[9] == "Name 9"
    path.write_text(path.read_text().replace("Name 3", "name 3"))
    assert match(read_predictions(path), questions).answers[3] == "name 3"


def test_predictions_for_other_questions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text('{"x1": "a", "x2": "b"}')
    with pytest.raises(UsageError, match=r"no id of a prediction is the id .* x1, x2 here and q1, q2, q3 there"):
        match(read_predictions(path), QUESTIONS)


def test_text_that_cannot_be_written_again_is_scored_and_reported(questions: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"id": "q1", "pred": "\ud800World War I"}' "\n" r'{"id": "\ud83d\u001b[31m", "pred": "x"}')
    [file] = json.loads(run(path, "--questions", questions, "--json"))["predictions"]
    assert file["extra"] == ["?\u001b[31m"]
    assert file["figures"]["squad"]["em"]["mean"] == pytest.approx(1 / 3, abs=1e-5), "? is punctuation"
    assert "\u001b" not in run(path, "--questions", questions)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(score, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def written(path: Path, answers: dict[str, Any]) -> Path:
    path.write_text(json.dumps(answers))
    return path


def test_all_normalisers_show_how_much_of_a_score_is_metric(questions: Path, tmp_path: Path) -> None:
    predictions = written(tmp_path / "a.json", ANSWERS)
    report = json.loads(run(predictions, "--questions", questions, "--normaliser", "all", "--json"))
    [file] = report["predictions"]
    means = {name: figures["em"]["mean"] for name, figures in file["figures"].items()}
    third = pytest.approx(1 / 3, abs=1e-5)
    assert means == {
        "squad": third, "triviaqa": third, "r1-searcher": third, "dpr": 0.0, "searchlm-v1": 1.0, "none": 0.0
    }  # fmt: skip
    spread = file["spread"]["em"]
    assert (spread["highest"], spread["lowest"], spread["difference"]["mean"]) == ("searchlm-v1", "dpr", 1.0)
    text = run(predictions, "--questions", questions, "--normaliser", "all")
    assert re.search(r"searchlm-v1 +em +100.00 +\[100.00, 100.00\] +n = 3\n", text)
    assert "searchlm-v1 minus dpr" in text


def test_missing_empty_and_extra_predictions_are_named_and_only_answers_count(questions: Path, tmp_path: Path) -> None:
    predictions = written(tmp_path / "a.json", {"q1": "World War I", "q2": " ", "x": "y"})
    report = json.loads(run(predictions, "--questions", questions, "--json"))
    [file] = report["predictions"]
    assert (file["missing"], file["unanswered"], file["extra"]) == (["q3"], ["q2"], ["x"])
    assert file["figures"]["squad"]["em"]["mean"] == pytest.approx(1 / 3, abs=1e-5)
    assert file["figures"]["squad"]["em"]["n"] == 3
    text = run(predictions, "--questions", questions)
    assert "no prediction for 1 (q3): counted as wrong" in text
    assert "an empty prediction for 1 (q2): counted as wrong" in text
    assert "no such question for predictions of 1 (x): not scored" in text


def test_gold_answers_of_which_nothing_is_left_are_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "q.jsonl", [Question("v", "Which vitamin is retinol?", ["A"]), QUESTIONS[0]])
    text = run(written(tmp_path / "a.json", {"v": "A"}), "--questions", tmp_path / "q.jsonl")
    assert "squad leaves an empty gold answer for 1 (v)" in text


def test_a_difference_is_paired_under_each_normaliser(questions: Path, tmp_path: Path) -> None:
    one = written(tmp_path / "a.json", ANSWERS)
    other = written(tmp_path / "b.json", {"q1": "World War I", "q2": "Henry II", "q3": "beatles"})
    report = json.loads(run(one, "--other", other, "--questions", questions, "--normaliser", "all", "--json"))
    found = {name: figures["em"]["mean"] for name, figures in report["difference"].items()}
    assert found["squad"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["searchlm-v1"] == 0.0, "the lenient one sees no difference"
    text = run(one, "--other", other, "--questions", questions)
    assert f"{other} minus {one}" in text and "+66.67" in text


def test_an_unknown_normaliser_is_refused_with_the_nearest(questions: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'searchlm-v1'"):
        run(written(tmp_path / "a.json", ANSWERS), "--questions", questions, "--normaliser", "searchlm")


@contextmanager
def judging(replies: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that replies by the given answer; yields its URL and what it was asked."""
    asked: list[dict[str, Any]] = []

    def reply(request: Asked) -> Reply:
        asked.append(request[2] | {"key": server.headers[-1].get("Authorization")})
        prompt = request[2]["messages"][0]["content"]
        [words] = [words for answer, words in replies.items() if f'Given answer: "{answer}"' in prompt]
        status, headers, body = as_json({"choices": [{"message": {"role": "assistant", "content": words}}]})
        return 400 if words is None else status, headers, body

    with serving(reply) as server:
        yield f"http://{server.address}/v1", asked


def test_a_judge_is_asked_once_and_its_words_are_kept(questions: Path, tmp_path: Path) -> None:
    predictions = written(tmp_path / "a.json", {"q1": "the Great War", "q2": "Henry III", "q3": ""})
    (tmp_path / "key").write_text("secret\n")
    with judging({"the Great War": "Yes.", "Henry III": "No: Henry II is meant."}) as (url, asked):
        command = (predictions, "--questions", questions, "--judge", url, "--judge-model", "m", "--json")
        report = json.loads(run(*command, "--judge-key-file", tmp_path / "key"))
        assert report["predictions"][0]["figures"]["judge"]["m"]["mean"] == pytest.approx(1 / 3, abs=1e-5)
        assert json.loads(run(*command)) == report
    assert len(asked) == 2, "what is empty is not asked, and nothing twice"
    assert {each["key"] for each in asked} == {"Bearer secret"}
    kept = list(read_jsonl(tmp_path / "a.json.verdicts.jsonl", Verdict))
    assert {(v.question_id, v.reply, v.right) for v in kept} == {
        ("q1", "Yes.", True), ("q2", "No: Henry II is meant.", False)
    }  # fmt: skip


@pytest.mark.parametrize("reply", ["Perhaps.", "Yes and no", "", None])
def test_what_the_judge_does_not_decide_is_an_error_and_what_it_did_is_kept(reply: str | None, tmp_path: Path) -> None:
    journal = tmp_path / "verdicts.jsonl"
    with judging({"World War II": "no", "Henry III": reply, "beatles": "yes"}) as (url, _):
        endpoint = Endpoint(url, None, seconds=10.0)
        with pytest.raises(EngineError):
            judge(endpoint, "m", QUESTIONS, list(ANSWERS.values()), journal)
    before = {verdict.question_id for verdict in read_jsonl(journal, Verdict)}
    assert "q2" not in before
    with judging({"World War II": "no", "Henry III": "no", "beatles": "yes"}) as (url, asked):
        endpoint = Endpoint(url, None, seconds=10.0)
        assert judge(endpoint, "m", QUESTIONS, list(ANSWERS.values()), journal) == [0.0, 0.0, 1.0]
    assert len(asked) == 3 - len(before)


def test_two_judges_do_not_take_each_others_verdicts(tmp_path: Path) -> None:
    with judging({"World War II": "no"}) as (url, asked):
        for model in ("m", "n", "m"):
            judge(Endpoint(url, None, 10.0), model, QUESTIONS[:1], ["World War II"], tmp_path / "v.jsonl")
    assert [each["model"] for each in asked] == ["m", "n"]


def test_a_judge_needs_a_name(questions: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="go together"):
        run(written(tmp_path / "a.json", ANSWERS), "--questions", questions, "--judge", "http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match="--judge-key-file goes with --judge"):
        run(written(tmp_path / "a.json", ANSWERS), "--questions", questions, "--judge-key-file", questions)
