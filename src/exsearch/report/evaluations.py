"""Collects what the page of one evaluation, or of two compared evaluations, shows."""

from typing import Literal

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_growing
from exsearch.evaluation.compare import Comparison
from exsearch.evaluation.folder import TRAJECTORIES, Evaluated
from exsearch.questions.question import Question
from exsearch.report import collect
from exsearch.report.collect import first_only_notice, flatten, protocol_warnings, shortened_notice
from exsearch.report.models import hops_of, page_model
from exsearch.report.page import Page, Paired
from exsearch.report.passages import PassageTable

Outcome = Literal["win", "loss", "tie"]


def evaluation_page(evaluated: Evaluated) -> Page:
    """Return the page of one evaluation."""
    ids = [score.question_id for score in evaluated.scores.questions]
    return _page("evaluation", evaluated.scores.name, {evaluated.scores.name: evaluated}, ids)


def comparison_page(a: Evaluated, b: Evaluated, comparison: Comparison) -> Page:
    """Return the page of a and b side by side; questions that one of them answered better come first."""
    outcomes: dict[str, Outcome] = {pair.question_id: "win" for pair in comparison.wins}
    outcomes |= {pair.question_id: "loss" for pair in comparison.losses}
    outcomes |= dict.fromkeys(comparison.ties, "tie")
    answered = {score.question_id for score in b.scores.questions}
    ids = [score.question_id for score in a.scores.questions if score.question_id in answered]
    ids.sort(key=lambda id_: outcomes.get(id_) not in ("win", "loss"))
    return _page(
        "comparison",
        f"{comparison.b} against {comparison.a}",
        {comparison.a: a, comparison.b: b},
        ids,
        comparison,
        outcomes,
    )


def _page(
    kind: Literal["evaluation", "comparison"],
    title: str,
    evaluations: dict[str, Evaluated],
    ids: list[str],
    comparison: Comparison | None = None,
    outcomes: dict[str, Outcome] | None = None,
) -> Page:
    by_id: dict[str, Question] = {}
    for each in evaluations.values():
        by_id = {**each.questions, **by_id}
    questions = [by_id.get(id_) or Question(id=id_, text=id_, answers=[]) for id_ in ids[: collect.MAX_QUESTIONS]]
    rows = {question.id: row for row, question in enumerate(questions)}
    hops = hops_of(by_id.values())
    passages = PassageTable()
    models = [
        page_model(
            name, each.scores, read_growing(each.folder / TRAJECTORIES, Trajectory), rows, hops, passages, trained=False
        )
        for name, each in evaluations.items()
    ]
    notices = []
    if len(ids) > len(questions):
        notices.append(first_only_notice(len(questions), len(ids), "questions"))
    if passages.shortened:
        notices.append(shortened_notice(passages.shortened))
    if comparison and (comparison.only_a or comparison.only_b):
        notices.append(
            f"The differences are over {comparison.n} questions that both answered; {comparison.only_a} of A and "
            f"{comparison.only_b} of B are not compared. All other figures are over all questions of each model."
        )
    if not by_id:
        notices.append("The text of the questions is unknown: there is no questions.jsonl.")
    fingerprints = {each.scores.protocol for each in evaluations.values()}
    return Page(
        kind=kind,
        title=title,
        fingerprint=fingerprints.pop() if len(fingerprints) == 1 else None,
        best=None,
        comparison=None,
        paired=_paired(comparison, [(outcomes or {}).get(question.id) for question in questions])
        if comparison
        else None,
        iterations=[],
        seconds={},
        split_sizes={},
        models=models,
        questions=questions,
        e_steps=[],
        losses=[],
        passages=passages.rows,
        config=[],
        protocol=_protocol(list(evaluations.values())),
        warnings=protocol_warnings(models, None),
        notices=notices,
    )


def _paired(comparison: Comparison, outcomes: list[Outcome | None]) -> Paired:
    return Paired(
        metric=comparison.metric,
        n=comparison.n,
        wins=len(comparison.wins),
        losses=len(comparison.losses),
        ties=len(comparison.ties),
        differences=comparison.differences,
        breakdowns=comparison.breakdowns,
        outcomes=outcomes,
    )


def _protocol(evaluations: list[Evaluated]) -> list[tuple[str, str]]:
    """Return the conditions; if they differ, those of A and B on separate lines."""
    tables = [dict(flatten({"fingerprint": each.scores.protocol, **each.protocol})) for each in evaluations]
    rows = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(key, "(none)") for table in tables]
        alike = len(set(values)) == 1
        rows.append((key, values[0] if alike else "\n".join(map("{}: {}".format, "AB", values))))
    return rows
