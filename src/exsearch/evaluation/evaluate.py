"""Evaluation: greedy trajectories on a set of questions, and the figures with their intervals."""

from collections import Counter
from pathlib import Path

import msgspec

from exsearch.agent.journal import Agents, first_samples, run_journaled
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Trajectory, answer_logprob
from exsearch.data.question import Question
from exsearch.errors import UsageError
from exsearch.evaluation.bootstrap import figure
from exsearch.evaluation.metrics import accuracy, exact_match, f1, passage_recall
from exsearch.evaluation.protocol import Protocol
from exsearch.evaluation.scores import QuestionScore, Scores, has_scores, read_scores, write_scores

TRAJECTORIES = "trajectories.jsonl"


class Evaluation(msgspec.Struct, frozen=True):
    """What to evaluate on, and where trajectories and scores go."""

    folder: Path
    questions: list[Question]
    protocol: Protocol


def evaluate(agents: Agents, evaluations: list[Evaluation], name: str, label: str) -> list[Scores]:
    """Answer all questions greedily, all in flight together; finished trajectories are reused.

    Raises UsageError if a folder holds the scores of another protocol, or trajectories of another model.
    """
    for evaluation in evaluations:
        folder = evaluation.folder
        if has_scores(folder) and read_scores(folder).protocol != evaluation.protocol.fingerprint:
            raise UsageError(
                f"{folder}: holds scores of another protocol (questions, index or settings); choose another"
            )
    draw = Draw(seed=0, temperature=0.0, score_answers=True)
    sets = {each.folder / TRAJECTORIES: each.questions for each in evaluations}
    found = run_journaled(agents, sets, first_samples(1), 1, draw, label)
    return [_write_scores(each, name, found[each.folder / TRAJECTORIES]) for each in evaluations]


def _write_scores(evaluation: Evaluation, name: str, found: list[list[Trajectory]]) -> Scores:
    trajectories = [trajectory for [trajectory] in found]
    scores = score(name, evaluation.questions, trajectories, evaluation.protocol.fingerprint)
    write_scores(evaluation.folder, scores)
    return scores


def score(name: str, questions: list[Question], trajectories: list[Trajectory], protocol: str) -> Scores:
    """Score one trajectory a question; one without an answer counts as wrong, never as missing."""
    rows = [_question_score(q, t) for q, t in zip(questions, trajectories, strict=True)]
    return aggregate(name, rows, questions, protocol)


def _question_score(question: Question, trajectory: Trajectory) -> QuestionScore:
    answer = trajectory.answer or ""
    read = {hit.passage.id for step in trajectory.steps for hit in step.hits}
    return QuestionScore(
        question_id=question.id,
        em=exact_match(answer, question.answers),
        f1=f1(answer, question.answers),
        acc=accuracy(answer, question.answers),
        recall=passage_recall(question.gold_passages, read),
        searches=len(trajectory.steps),
        tokens=sum(trajectory.loss_mask),
        answer_logprob=answer_logprob(trajectory.alias_scores, "sum") if trajectory.alias_scores else None,
        stop_reason=trajectory.stop_reason.value,
    )


def aggregate(name: str, rows: list[QuestionScore], questions: list[Question], protocol: str) -> Scores:
    """Return the means with their intervals."""
    columns = {
        "em": [row.em for row in rows],
        "f1": [row.f1 for row in rows],
        "acc": [row.acc for row in rows],
        "recall": [row.recall for row in rows if row.recall is not None],
        "searches": [float(row.searches) for row in rows],
        "tokens": [float(row.tokens) for row in rows],
        "answer_logprob": [row.answer_logprob for row in rows if row.answer_logprob is not None],
    }
    by_hops: dict[str, list[float]] = {}
    for question, row in zip(questions, rows, strict=True):
        by_hops.setdefault(str(question.hops or "unknown"), []).append(row.em)
    return Scores(
        name=name,
        protocol=protocol,
        figures={column: figure(values) for column, values in columns.items()},
        stop_reasons=dict(Counter(row.stop_reason for row in rows)),
        by_hops={hops: figure(values) for hops, values in sorted(by_hops.items())},
        questions=rows,
    )
