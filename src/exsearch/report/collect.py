"""Collects what the page of a run shows, with notices about what is absent or omitted."""

import re

import msgspec

from exsearch.em.weigh import summarise
from exsearch.evaluation.bootstrap import answer_probability
from exsearch.evaluation.scores import Figure, Scores
from exsearch.questions.question import Question
from exsearch.report.e_steps import collect_e_steps
from exsearch.report.losses import loss_curves
from exsearch.report.models import hops_of, known_figures, page_model
from exsearch.report.page import EStep, Model, Page
from exsearch.report.passages import PassageTable
from exsearch.runs.layout import is_trained
from exsearch.runs.reader import RunReader
from exsearch.runs.records import Iteration, RunSummary

MAX_QUESTIONS = 300
"""Maximum number of test questions to browse; the figures are over all of them."""

SECRET = re.compile(r"(^|[._-])(api_?key|token|secret|password|authorization)$", re.IGNORECASE)


def collect(run: RunReader) -> Page:
    """Return the page of `run`."""
    summary = run.summary()
    splits = {split: run.questions(split) for split in ("train", "dev", "test")}
    passages = PassageTable()
    models, questions, omitted = _models(run, (summary.models if summary else []) or run.models(), splits, passages)
    e_steps = collect_e_steps(run, splits["train"], passages)
    protocol = run.protocol()
    fingerprint = protocol.get("fingerprint")
    page = Page(
        kind="run",
        title=(summary.title if summary else "") or run.path.resolve().name,
        fingerprint=str(fingerprint) if fingerprint else next((m.protocol for m in models if m.protocol), None),
        best=summary.best if summary else None,
        comparison=summary.comparison if summary else None,
        paired=None,
        iterations=summary.iterations if summary else _unfinished_iterations(run),
        seconds=summary.seconds if summary else {},
        split_sizes={split: len(group) for split, group in splits.items() if group},
        models=models,
        questions=questions,
        e_steps=e_steps,
        losses=loss_curves(run.metrics()),
        passages=passages.rows,
        config=flatten(run.config()),
        protocol=flatten(protocol),
        warnings=protocol_warnings(models, str(fingerprint) if fingerprint else None),
        notices=[],
    )
    page.notices.extend(_notices(summary, page, omitted, passages.shortened))
    return page


def _models(
    run: RunReader, names: list[str], splits: dict[str, list[Question]], passages: PassageTable
) -> tuple[list[Model], list[Question], int]:
    """Return the models, the questions that their lists are parallel to, and the number of questions omitted."""
    scores = {name: run.scores(name) for name in names}
    ids: dict[str, None] = {}
    for record in scores.values():
        ids.update(dict.fromkeys(score.question_id for score in record.questions) if record else {})
    for name in names:
        if scores[name] is None:
            ids.update(dict.fromkeys(trajectory.question_id for trajectory in run.evaluated(name)))
    questions = _in_file_order(list(ids), splits)
    browsable = questions[:MAX_QUESTIONS]
    rows = {question.id: row for row, question in enumerate(browsable)}
    hops = hops_of(questions)
    models = [
        page_model(
            name,
            scores[name],
            run.evaluated(name),
            rows,
            hops,
            passages,
            trained=is_trained(name),
            validation=_exact_match(run.validation(name)),
            train_probability=_probability(run.training(name)),
        )
        for name in names
    ]
    return models, browsable, len(questions) - len(browsable)


def _in_file_order(ids: list[str], splits: dict[str, list[Question]]) -> list[Question]:
    """Return the questions of `ids`; an id that is in no split becomes a question with the id as its text."""
    records: dict[str, Question] = {}
    for split in ("test", "dev", "train"):
        for question in splits[split]:
            records.setdefault(question.id, question)
    distinct = set(ids)
    questions = [question for question in records.values() if question.id in distinct]
    return questions + [Question(id=id_, text=id_, answers=[]) for id_ in ids if id_ not in records]


def _exact_match(scores: Scores | None) -> Figure | None:
    return known_figures(scores.figures).get("em") if scores else None


def _probability(scores: Scores | None) -> Figure | None:
    probability = answer_probability(scores) if scores else None
    return probability if probability and probability.n else None


def _unfinished_iterations(run: RunReader) -> list[Iteration]:
    weights = {name: list(run.weights(name)) for name in run.explored_iterations()}
    iterations = [summarise(records).as_iteration(name) for name, records in weights.items() if records]
    return [msgspec.structs.replace(iteration, guard=run.guard(iteration.name)) for iteration in iterations]


def protocol_warnings(models: list[Model], fingerprint: str | None) -> list[str]:
    """Warn if scores were computed under different protocols."""
    protocols = {model.name: model.protocol for model in models if model.protocol}
    expected = fingerprint or next(iter(protocols.values()), None)
    others = [f"{name} ({protocol})" for name, protocol in protocols.items() if protocol != expected]
    if not others:
        return []
    return [f"Not comparable: scored under another protocol than {expected}: {', '.join(others)}."]


def _notices(summary: RunSummary | None, page: Page, omitted: int, shortened: int) -> list[str]:
    notices = []
    if summary is None:
        notices.append("summary.json is absent: the run is unfinished, or was never summarised.")
    unscored = [model.name for model in page.models if not model.figures]
    if unscored:
        notices.append(f"No scores yet for {', '.join(unscored)}.")
    if omitted:
        notices.append(first_only_notice(len(page.questions), len(page.questions) + omitted, "test questions"))
    notices.extend(notice for notice in map(_e_step_notice, page.e_steps) if notice)
    if shortened:
        notices.append(shortened_notice(shortened))
    return notices


def first_only_notice(count: int, total: int, what: str) -> str:
    """Say that only some questions can be browsed."""
    return f"The first {count} of {total} {what} can be browsed here; all figures and charts are over all {total}."


def shortened_notice(count: int) -> str:
    """Say that some passages are shortened."""
    return f"{count} passages are shortened here to bound the size of this page."


def _e_step_notice(e_step: EStep) -> str | None:
    if len(e_step.explored) == e_step.total:
        return None
    return (
        f"{e_step.name}: the samples of the first {len(e_step.explored)} of {e_step.total} training "
        "questions can be browsed here; the histograms are over all of them."
    )


def flatten(table: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested tables as dotted keys and text; values that look like secrets are masked."""
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows.extend(flatten(value, f"{name}."))
        elif isinstance(value, str) and value and SECRET.search(name):
            rows.append((name, "(hidden)"))
        else:
            rows.append((name, value if isinstance(value, str) else repr(value)))
    return rows
