"""Converts an evaluation to the form that a page shows."""

from collections import Counter
from collections.abc import Iterable

from exsearch.agent.trajectory import Trajectory
from exsearch.evaluation.bootstrap import answer_probability, figure
from exsearch.evaluation.scores import Figure, QuestionScore, Scores
from exsearch.questions.question import Question
from exsearch.report.page import Model, Score
from exsearch.report.passages import PassageTable
from exsearch.report.trajectories import page_trajectory


def page_model(
    name: str,
    scores: Scores | None,
    trajectories: Iterable[Trajectory],
    rows: dict[str, int],
    hops: dict[str, int],
    passages: PassageTable,
    trained: bool,
    validation: Figure | None = None,
    train_probability: Figure | None = None,
) -> Model:
    """Return the model; `rows` maps question ids to rows of the page, `hops` question ids to numbers of hops."""
    model = Model(
        name=name,
        trained=trained,
        protocol=scores.protocol if scores else None,
        figures=_figures(scores) if scores else {},
        validation=validation,
        train_probability=train_probability,
        stop_reasons=scores.stop_reasons if scores else {},
        by_hops=known_figures(scores.by_hops) if scores else {},
        f1_by_hops=_f1_by_hops(scores.questions, hops) if scores else {},
        searches=_searches(scores.questions) if scores else {},
        scores=[None] * len(rows),
        trajectories=[None] * len(rows),
    )
    for score in scores.questions if scores else []:
        row = rows.get(score.question_id)
        if row is not None:
            model.scores[row] = _score(score)
    for trajectory in trajectories:
        _place(model, trajectory, rows, passages)
    return model


def hops_of(questions: Iterable[Question]) -> dict[str, int]:
    """Return the number of hops by question id, for questions that have one."""
    return {question.id: question.hops for question in questions if question.hops}


def _figures(scores: Scores) -> dict[str, Figure]:
    """Return the figures; older evaluations have log p(y | x, z) instead of p(y | x, z)."""
    figures = {name: figure for name, figure in scores.figures.items() if name != "answer_logprob"}
    figures.setdefault("answer_probability", answer_probability(scores))
    return known_figures(figures)


def known_figures(figures: dict[str, Figure]) -> dict[str, Figure]:
    """Return the figures that are over at least one question."""
    return {key: figure for key, figure in figures.items() if figure.n}


def _f1_by_hops(scores: list[QuestionScore], hops: dict[str, int]) -> dict[str, Figure]:
    values: dict[int, list[float]] = {}
    for score in scores:
        if score.question_id in hops:
            values.setdefault(hops[score.question_id], []).append(score.f1)
    return {str(number): figure(values[number]) for number in sorted(values)}


def _searches(scores: list[QuestionScore]) -> dict[str, int]:
    counts = Counter(score.searches for score in scores)
    return {str(number): counts[number] for number in sorted(counts)}


def _score(score: QuestionScore) -> Score:
    return Score(
        em=score.em,
        f1=round(score.f1, 4),
        recall=None if score.recall is None else round(score.recall, 4),
        searches=score.searches,
        stop_reason=score.stop_reason,
    )


def _place(model: Model, trajectory: Trajectory, rows: dict[str, int], passages: PassageTable) -> None:
    """Put the trajectory in its question's row; of several, the one with the lowest sample and branch."""
    row = rows.get(trajectory.question_id)
    if row is None:
        return
    present = model.trajectories[row]
    if present is None or trajectory.number < (present.sample, present.branch):
        model.trajectories[row] = page_trajectory(trajectory, passages)
