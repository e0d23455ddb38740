"""`exsearch warmup`: supervised fine-tuning on gold trajectories."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import (
    config_option,
    experiment_on,
    json_option,
    model_option,
    set_option,
    settings,
)

if TYPE_CHECKING:
    from exsearch.agent.experiment import Experiment
    from exsearch.agent.trajectory import Trajectory


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--index", help="Index folder, URL of a server, or replay:FILE. Not needed if FILE has trajectories.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
@model_option
@config_option
@set_option
@json_option
def warmup(
    file: Path,
    index: str | None,
    out: Path,
    model: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Teach the model the grammar from FILE: warm-up trajectories, or questions whose annotations become trajectories.

    All trajectories of a file that `exsearch data warmup` wrote are used. Of a question file, only the first
    `warmup.questions` questions are used; it needs --index. The trajectories are written to OUT.trajectories.jsonl.
    """
    from exsearch.agent.experiment import Experiment
    from exsearch.cli.training import run_training
    from exsearch.core.jsonl import write_jsonl
    from exsearch.training.example import example_from
    from exsearch.training.job import Job
    from exsearch.warmup.write import are_trajectories, read_warmup

    config = settings(recipe, overrides, model__path=model)
    experiment = Experiment(config) if index is None else experiment_on(index, config)
    base, chat = experiment.model, experiment.chat
    gold = read_warmup(file, chat) if are_trajectories(file) else _from_annotations(file, index, experiment)
    examples = [example_from(trajectory, 1.0, None, chat) for trajectory in gold]
    job = Job.of(base, examples, out, config.warmup, config.model, config.seed, "warmup")
    run_training(job, config.tracking, as_json)
    write_jsonl(out.with_name(f"{out.name}.trajectories.jsonl"), gold)


def _from_annotations(file: Path, index: str | None, experiment: "Experiment") -> "list[Trajectory]":
    from exsearch.core.errors import UsageError
    from exsearch.questions.question import read_questions
    from exsearch.warmup.plan import GoldPassages
    from exsearch.warmup.write import gold_trajectories, within_context

    if index is None:
        raise UsageError(f"{file}: has questions, not trajectories; name the index of their passages (--index)")
    config = experiment.config
    questions, retriever = read_questions(file, config.warmup.questions), experiment.retriever
    passages, agent = GoldPassages.of(experiment), within_context(config.agent, experiment.model)
    gold = gold_trajectories(questions, retriever, experiment.chat, agent, passages)
    if not gold:
        raise UsageError(
            f"{file}: no question has annotations whose passages this index returns; `exsearch data warmup` says why"
        )
    return gold
