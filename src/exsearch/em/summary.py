"""Summarises a run: the figures of each iteration, and the result."""

import msgspec

from exsearch.core.jsonl import write_json
from exsearch.em.assessment import Assessment
from exsearch.em.guard import Decision
from exsearch.em.replay import Contribution
from exsearch.em.started_run import StartedRun
from exsearch.em.weigh import WeightSummary
from exsearch.evaluation.bootstrap import paired_difference
from exsearch.runs.records import ExactMatchDifference, Iteration, RunSummary


def iteration_of(
    name: str, weights: WeightSummary, sources: list[Contribution], decision: Decision | None, validation_em: float
) -> Iteration:
    """Summarise an iteration; `validation_em` is of the model it ended with, the previous one after a refused step."""
    total = sum(source.weight for source in sources) or 1.0
    return msgspec.structs.replace(
        weights.as_iteration(name),
        examples=sum(source.examples for source in sources),
        validation_em=validation_em,
        sources={source.name: round(source.weight / total, 5) for source in sources},
        ratios_worth={source.name: worth for source in sources if (worth := source.ratios_worth) is not None},
        guard=decision.sentence if decision else "",
    )


def write_summary(
    run: StartedRun, assessment: Assessment, models: list[str], iterations: list[Iteration], seconds: dict[str, float]
) -> RunSummary:
    """Choose the best model by validation, compare it with the warm-up on the test questions, and write the summary."""
    best = max(models, key=lambda name: (assessment.merit(name), models.index(name)))
    comparison = None
    if best != "warmup":
        before, after = ([row.em for row in assessment.on_test(name).questions] for name in ("warmup", best))
        comparison = ExactMatchDifference("warmup", best, paired_difference(before, after))
    summary = RunSummary(
        title=run.config.title,
        models=["closed-book", "majority", *models],
        best=best,
        seconds=seconds,
        comparison=comparison,
        iterations=iterations,
        train_answer_probability=assessment.on_training_questions(models),
    )
    write_json(run.folder.summary, summary)
    return summary


def encode_summary(summary: RunSummary) -> str:
    """Return the summary as one line of JSON, for `--json`."""
    return msgspec.json.encode(summary).decode()
