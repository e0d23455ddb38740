"""`exsearch warmup`: supervised fine-tuning on gold trajectories."""

from pathlib import Path

import click

from exsearch.cli.options import (
    config_option,
    index_option,
    json_option,
    model_option,
    set_option,
    settings,
)


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@index_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
@model_option
@config_option
@set_option
@json_option
def warmup(
    questions: Path,
    index: str,
    out: Path,
    model: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Teach the model the grammar from QUESTIONS, whose decompositions become trajectories over the index.

    The first `warmup.questions` of the file are used. The trajectories are kept in OUT.trajectories.jsonl.
    """
    from exsearch.agent.chat import ChatFormat
    from exsearch.agent.loading import load_retriever
    from exsearch.cli.training import run_training
    from exsearch.data.question import read_questions
    from exsearch.em.warmup import gold_trajectories
    from exsearch.engine.builtin import resolve_model
    from exsearch.errors import UsageError
    from exsearch.files import write_jsonl
    from exsearch.training.example import example_from

    config = settings(recipe, overrides, model__path=model)
    chosen = read_questions(questions, config.warmup.questions)
    retriever = load_retriever(config, index)
    base = resolve_model(config.model.path)
    chat = ChatFormat.load(base)
    gold = gold_trajectories(chosen, retriever, chat, config.agent)
    if not gold:
        raise UsageError(f"{questions}: no question has a decomposition whose passages this index returns")
    write_jsonl(out.with_name(f"{out.name}.trajectories.jsonl"), gold)
    examples = [example_from(trajectory, 1.0, None, chat) for trajectory in gold]
    run_training(base, examples, out, config.warmup, config, "warmup", as_json)
