"""`exsearch learn`: the M-step, alone."""

from pathlib import Path

import click

from exsearch.cli.options import config_option, json_option, model_option, set_option, settings


@click.command()
@click.argument("trajectories", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
@model_option
@config_option
@set_option
@json_option
def learn(
    trajectories: Path,
    weights: Path,
    out: Path,
    model: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fine-tune the model on the journal TRAJECTORIES with the weights of the file WEIGHTS."""
    from exsearch.agent.chat import ChatFormat
    from exsearch.agent.trajectory import Trajectory
    from exsearch.cli.training import run_training
    from exsearch.em.learn import weighted_examples
    from exsearch.em.weighted import Weighted
    from exsearch.engine.builtin import resolve_model
    from exsearch.files import read_jsonl

    config = settings(recipe, overrides, model__path=model)
    base = resolve_model(config.model.path)
    examples = weighted_examples(
        read_jsonl(trajectories, Trajectory),
        list(read_jsonl(weights, Weighted)),
        ChatFormat.load(base, config.agent),
        config.learn,
    )
    run_training(base, examples, out, config.learn, config, "learn", as_json)
