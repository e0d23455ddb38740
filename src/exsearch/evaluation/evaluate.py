"""Evaluation: greedy trajectories on a set of questions, and figures with intervals."""

from collections import Counter
from pathlib import Path

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.journal import Journals, check_failures, first_samples
from exsearch.agent.origin import check_origin, known_before_loading, origin_of, scored_by_aliases
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Cost, Trajectory, answer_logprob
from exsearch.config import AgentConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.locks import require_free
from exsearch.core.messages import logger
from exsearch.evaluation.bootstrap import figure
from exsearch.evaluation.evidence_metrics import answer_recorded, grounded, reading
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.metrics import answer_scores
from exsearch.evaluation.protocol import PROTOCOL, Protocol, check_protocol, write_protocol
from exsearch.evaluation.scores import (
    QuestionScore,
    Scores,
    has_scores,
    read_scores,
    with_probabilities,
    write_scores,
)
from exsearch.questions.question import Question

GREEDY = Draw(seed=0, temperature=0.0, score_answers=True)
_NO_FIGURE = ("question_id", "stop_reason", "answer_logprob")
_ALWAYS = ("em", "f1", "acc", "recall", "searches", "tokens", "malformed")
"""Figures that readers of scores.json expect even if no question has them."""


class Evaluation(msgspec.Struct, frozen=True):
    """What to evaluate on, and where to write trajectories and scores."""

    folder: Path
    questions: list[Question]
    protocol: Protocol


def check_folder(folder: Path, questions: list[Question], config: AgentConfig) -> None:
    """Raise UsageError where `evaluate` would, for what can be checked before a model is loaded."""
    require_free(folder / TRAJECTORIES)
    check_origin(folder / TRAJECTORIES, origin_of(known_before_loading(config), GREEDY, questions))


def evaluate(agents: Agents, evaluations: list[Evaluation], name: str, label: str) -> list[Scores]:
    """Answer all questions greedily, all at once; finished trajectories are reused.

    Raises UsageError if a folder has an evaluation of another protocol, and as `Journals` does for its trajectories.
    Raises ExSearchError if the retriever or engine failed for a question for the first time, or for many repeatedly,
    since failed requests would count as wrong answers. A question that fails each time counts as wrong.
    """
    sets = {each.folder / TRAJECTORIES: each.questions for each in evaluations}
    for path, questions in sets.items():
        check_origin(path, origin_of(agents.settings, GREEDY, questions))  # names more differences than a protocol does
    for evaluation in evaluations:
        check_protocol(evaluation.folder, evaluation.protocol)
        folder = evaluation.folder
        if has_scores(folder) and read_scores(folder).protocol != evaluation.protocol.fingerprint:
            raise UsageError(f"{folder}: has scores of another protocol (questions, index or settings); choose another")
    for evaluation in evaluations:
        write_protocol(evaluation.folder / PROTOCOL, evaluation.protocol)
    with Journals(agents, sets, GREEDY, drop_failed=True) as journals:
        groups = journals.roll_out(first_samples(1), 1, label)
    for path, trajectories in groups.items():
        require_no_outage(path, [trajectory for [trajectory] in trajectories], journals.failed_before(path))
    return [_write_scores(each, name, groups[each.folder / TRAJECTORIES]) for each in evaluations]


def require_no_outage(path: Path, trajectories: list[Trajectory], failed_before: set[str]) -> None:
    """Raise ExSearchError if retriever or engine failed for a question for the first time, or for many repeatedly.

    `failed_before` has the ids of the questions that had failed when this call began; they are reported on stderr.
    """
    message = check_failures(trajectories)
    if any(trajectory.failed and trajectory.question_id not in failed_before for trajectory in trajectories):
        raise ExSearchError(f"{path}: {message}. Run the same command again to retry them; there is no score yet")
    if message:
        logger.warning(f"{path}: {message}. They failed before and count as wrong")


def _write_scores(evaluation: Evaluation, name: str, groups: list[list[Trajectory]]) -> Scores:
    trajectories = [trajectory for [trajectory] in groups]
    scores = score(name, evaluation.questions, trajectories, evaluation.protocol.fingerprint)
    if earlier := scored_by_aliases(evaluation.folder / TRAJECTORIES):
        scores = msgspec.structs.replace(scores, likelihood_of="mixed" if earlier < len(trajectories) else "aliases")
    write_scores(evaluation.folder, scores)
    return scores


def score(name: str, questions: list[Question], trajectories: list[Trajectory], protocol: str) -> Scores:
    """Score one trajectory per question; one without an answer counts as wrong, never as missing."""
    rows = [_question_score(q, t) for q, t in zip(questions, trajectories, strict=True)]
    return aggregate(name, rows, questions, protocol)


def _question_score(question: Question, trajectory: Trajectory) -> QuestionScore:
    answer, steps, cost = trajectory.answer, trajectory.steps, trajectory.cost
    scores = answer_scores(answer, question.answers)
    evidence = reading(question.gold_passages, steps)
    measured = cost != Cost()
    return QuestionScore(
        question_id=question.id,
        em=scores["em"],
        f1=scores["f1"],
        acc=scores["acc"],
        recall=evidence.recall,
        searches=len(steps),
        tokens=sum(trajectory.loss_mask),
        answer_logprob=answer_logprob(trajectory.alias_scores, "sum") if trajectory.alias_scores else None,
        stop_reason=trajectory.stop_reason.value,
        cover_em=scores["cover_em"],
        sub_em=scores["sub_em"],
        f1_hotpotqa=scores["f1_hotpotqa"],
        precision=evidence.precision,
        step_recall=evidence.step_recall,
        step_precision=evidence.step_precision,
        any_gold=evidence.any_gold,
        grounded=grounded(steps),
        answer_recorded=answer_recorded(answer, steps),
        prefilled_tokens=cost.prefilled_tokens if measured else None,
        cached_tokens=cost.cached_tokens if measured else None,
        model_seconds=cost.model_seconds if measured else None,
        search_seconds=cost.search_seconds if measured else None,
    )


def aggregate(name: str, rows: list[QuestionScore], questions: list[Question], protocol: str) -> Scores:
    """Return the means with their intervals, without figures that no question has, unless readers expect them."""
    rows = with_probabilities(rows)
    columns = {field: _column(rows, field) for field in QuestionScore.__struct_fields__ if field not in _NO_FIGURE}
    by_hops: dict[str, list[float]] = {}
    for question, row in zip(questions, rows, strict=True):
        by_hops.setdefault(str(question.hops or "unknown"), []).append(row.em)
    return Scores(
        name=name,
        protocol=protocol,
        figures={column: figure(values) for column, values in columns.items() if values or column in _ALWAYS},
        stop_reasons=dict(Counter(row.stop_reason for row in rows)),
        by_hops={hops: figure(values) for hops, values in sorted(by_hops.items())},
        questions=rows,
        likelihood_of="spellings",
    )


def _column(rows: list[QuestionScore], field: str) -> list[float]:
    return [float(value) for row in rows if (value := getattr(row, field)) is not None]
