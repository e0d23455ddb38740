"""Evaluation of several sets of questions at once."""

import asyncio
import json
import math
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.cli.eval import eval_
from exsearch.config import AgentConfig, RolloutConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.evaluation.evaluate import Evaluation, aggregate, evaluate, score
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.protocol import make_protocol
from exsearch.evaluation.scores import QuestionScore, Scores, has_scores, read_scores, with_probabilities
from exsearch.questions.question import Question
from exsearch.runs.evaluations import read_evaluation
from scripted import ScriptedEngine, StaticRetriever

AGENT = AgentConfig(max_steps=2, passages=1, turn_tokens=16, context=512)
FIRST = [Question(f"q{n}", f"What is number {n}?", ["the answer"]) for n in range(3)]
SECOND = [Question(f"q{n}", f"Which is letter {n}?", ["another"]) for n in range(5)]
"""Other questions of the same ids, as two files may have them."""


def script(prompt: str, turn: int, seed: int) -> str:
    """A model that answers only questions about numbers."""
    if turn == 0:
        return "<QUERY> numbers" if "number" in prompt else "nonsense"
    return "<FACT> known <FINAL>" if turn == 1 else "the answer"


@pytest.fixture
def agent(chat: ChatFormat) -> Agent:
    retriever = StaticRetriever([Passage("a", "A", "text")])
    return Agent(ScriptedEngine(chat, script), retriever, chat, AGENT, RolloutConfig(in_flight=4))


def evaluations(root: Path, questions: dict[str, list[Question]]) -> list[Evaluation]:
    return [Evaluation(root / name, own, make_protocol(AGENT, "index", own)) for name, own in questions.items()]


def but_seconds(found: list[Scores]) -> list[object]:
    """The scores without what the clock says."""
    seconds = {"model_seconds": None, "search_seconds": None}
    return [
        msgspec.structs.replace(
            scores,
            figures={name: figure for name, figure in scores.figures.items() if name not in seconds},
            questions=[msgspec.structs.replace(row, **seconds) for row in scores.questions],
        )
        for scores in found
    ]


def test_sets_evaluated_together_score_as_each_alone_though_ids_repeat(agent: Agent, tmp_path: Path) -> None:
    sets = {"first": FIRST, "second": SECOND}
    together = evaluate(agent, evaluations(tmp_path / "together", sets), "m", "evaluate")
    alone = [evaluate(agent, [one], "m", "evaluate")[0] for one in evaluations(tmp_path / "alone", sets)]
    assert but_seconds(together) == but_seconds(alone)
    assert [scores.figures["em"].mean for scores in together] == [1.0, 0.0]
    assert [len(scores.questions) for scores in together] == [3, 5]


def test_only_what_a_set_lacks_is_answered_when_it_is_continued(agent: Agent, tmp_path: Path) -> None:
    sets = evaluations(tmp_path, {"first": FIRST, "second": SECOND})
    whole = evaluate(agent, sets, "m", "evaluate")
    journal = sets[1].folder / TRAJECTORIES
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    assert isinstance(agent.engine, ScriptedEngine)
    agent.engine.turns.clear()
    assert but_seconds(evaluate(agent, sets, "m", "evaluate")) == but_seconds(whole)
    assert agent.engine.turns.count(0) == 3


def test_scores_of_other_questions_are_not_replaced_and_nothing_is_answered(agent: Agent, tmp_path: Path) -> None:
    evaluate(agent, evaluations(tmp_path, {"first": FIRST}), "m", "evaluate")
    assert isinstance(agent.engine, ScriptedEngine)
    calls = agent.engine.calls
    named = r"question 'q0', text = \"What is number 0\?\" -> \"Which is letter 0\?\"; .*; and 3 more"
    with pytest.raises(UsageError, match=named):
        evaluate(agent, evaluations(tmp_path, {"second": FIRST, "first": SECOND}), "m", "evaluate")
    assert agent.engine.calls == calls
    assert not (tmp_path / "second").exists()


def test_the_command_leaves_all_that_a_comparison_needs(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exsearch.agent.agents.load_agents", lambda experiment: agent)
    write_jsonl(tmp_path / "questions.jsonl", [*FIRST, *SECOND[3:]])
    options = ["--index", "-", "--questions", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "e")]
    result = CliRunner().invoke(eval_, [*options, "--limit", "4"])
    assert result.exit_code == 0 and str(tmp_path / "e" / "report.html") in result.output
    found = read_evaluation(tmp_path / "e")
    assert list(found.questions.values()) == [*FIRST, SECOND[3]]
    assert found.answers == {"q0": "the answer", "q1": "the answer", "q2": "the answer", "q3": None}
    assert found.protocol["question_count"] == 4
    assert '"kind":"evaluation"' in (tmp_path / "e" / "report.html").read_text(encoding="utf-8")


def test_scores_say_what_was_read_recorded_and_spent(agent: Agent, tmp_path: Path) -> None:
    questions = [msgspec.structs.replace(question, gold_passages=["a", "b"]) for question in FIRST]
    [scores] = evaluate(agent, evaluations(tmp_path, {"first": questions}), "m", "evaluate")
    means = {name: figure.mean for name, figure in scores.figures.items()}
    assert (means["recall"], means["precision"], means["any_gold"]) == (0.5, 1.0, 1.0)
    assert (means["grounded"], means["answer_recorded"]) == (0.0, 0.0), "the passage says text, the fact known"
    assert means["cover_em"] == means["em"] == 1.0
    assert means["model_seconds"] > 0 and "cached_tokens" in means
    assert read_scores(tmp_path / "first") == scores


def test_a_question_that_was_not_answered_is_wrong_even_where_nothing_is_left_of_its_answer(agent: Agent) -> None:
    [failed] = asyncio.run(agent.trajectories(Question("q", "Which letter?", ["A"]), 0, Draw(0, 0.0)))
    assert failed.answer is None
    scores = score("m", [Question("q", "Which letter?", ["A"])], [failed], "feed")
    assert scores.figures["em"].mean == 0.0
    assert "precision" not in scores.figures and scores.figures["recall"].n == 0


def test_scores_written_before_there_were_more_figures_are_still_read(tmp_path: Path) -> None:
    row = {"question_id": "q", "em": 1, "f1": 1, "acc": 1, "recall": None, "searches": 2, "tokens": 9}
    row |= {"answer_logprob": -1.0, "stop_reason": "answered"}
    old = {"name": "m", "protocol": "feed", "figures": {}, "stop_reasons": {}, "by_hops": {}, "questions": [row]}
    (tmp_path / "scores.json").write_text(json.dumps(old))
    [read] = read_scores(tmp_path).questions
    assert (read.em, read.cover_em, read.model_seconds) == (1.0, None, None)
    assert (read.answer_probability, read.malformed) == (pytest.approx(math.exp(-1), abs=1e-5), 0.0)


@pytest.mark.parametrize(
    ("ends", "known"),
    [
        ([("answered", -1.0), ("malformed", None)], [0.36788, 0.0]),
        ([("answered", -1.0), ("answered", None)], [0.36788, 0.0]),  # no room for a gold answer
        ([("malformed", None), ("max_steps", None)], [0.0, 0.0]),
        ([("answered", None), ("malformed", None)], [None, None]),  # what answers does not score
    ],
)
def test_what_ends_without_an_answer_has_probability_0(
    ends: list[tuple[str, float | None]], known: list[float | None]
) -> None:
    rows = [QuestionScore(str(n), 0, 0, 0, None, 1, 9, logprob, stop) for n, (stop, logprob) in enumerate(ends)]
    found = with_probabilities(rows)
    assert [row.answer_probability for row in found] == known
    assert [row.malformed for row in found] == [float(stop == "malformed") for stop, _ in ends]
    figures = aggregate("m", rows, [Question(row.question_id, "?", []) for row in rows], "feed").figures
    assert "answer_logprob" not in figures and figures["malformed"].n == 2
    assert ("answer_probability" in figures) == (known != [None, None])


def test_an_outage_is_no_score_and_the_same_call_answers_what_it_took(chat: ChatFormat, tmp_path: Path) -> None:
    retriever = StaticRetriever([Passage("a", "A", "text")], fails_for="numbers")
    limits = RolloutConfig(in_flight=4, search_retries=0)
    agent = Agent(ScriptedEngine(chat, script), retriever, chat, AGENT, limits)
    with pytest.raises(
        ExSearchError, match=r"3 of 3 trajectories failed, the first, of 'q0', with: .*the index is gone"
    ):
        evaluate(agent, evaluations(tmp_path, {"first": FIRST}), "m", "evaluate")
    assert not has_scores(tmp_path / "first")
    retriever.fails_for = None
    [scores] = evaluate(agent, evaluations(tmp_path, {"first": FIRST}), "m", "evaluate")
    assert (scores.figures["em"].mean, scores.stop_reasons) == (1.0, {"answered": 3})
    assert len(list(read_jsonl(tmp_path / "first" / TRAJECTORIES, Trajectory))) == 3


def test_a_question_that_fails_each_time_counts_as_wrong_and_many_count_as_nothing(
    chat: ChatFormat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def says(prompt: str, turn: int, seed: int) -> str:
        return "<QUERY> gone" if turn == 0 and "number 3?" in prompt else script(prompt, turn, seed)

    questions = [Question(f"q{n}", f"What is number {n}?", ["the answer"]) for n in range(10)]
    retriever = StaticRetriever([Passage("a", "A", "text")], fails_for="gone")
    agent = Agent(ScriptedEngine(chat, says), retriever, chat, AGENT, RolloutConfig(in_flight=1, search_retries=0))
    with pytest.raises(ExSearchError, match=r"1 of 10 .*'q3'.* there is no score yet"):
        evaluate(agent, evaluations(tmp_path, {"first": questions}), "m", "evaluate")
    [scores] = evaluate(agent, evaluations(tmp_path, {"first": questions}), "m", "evaluate")
    assert (scores.figures["em"].mean, scores.stop_reasons) == (0.9, {"answered": 9, "retrieval_failed": 1})
    assert "They failed before and count as wrong" in caplog.text
    for _ in range(2):
        with pytest.raises(ExSearchError, match="3 of 3 trajectories failed"):
            evaluate(
                Agent(
                    ScriptedEngine(chat, lambda *_: "<QUERY> gone"),
                    retriever,
                    chat,
                    AGENT,
                    RolloutConfig(in_flight=1, search_retries=0),
                ),
                evaluations(tmp_path, {"second": FIRST}),
                "m",
                "evaluate",
            )
