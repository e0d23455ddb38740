"""`exsearch learn`: only the M-step."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import config_option, json_option, model_option, set_option, settings

if TYPE_CHECKING:
    from exsearch.em.replay import Rollouts


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TRAJECTORIES WEIGHTS ...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
@model_option
@config_option
@set_option
@json_option
def learn(
    files: tuple[Path, ...],
    out: Path,
    model: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fine-tune the model on the journal TRAJECTORIES with the weights of the file WEIGHTS.

    To learn from several E-steps, name several journals, each followed by its weights, the newest last, and add
    --set learn.replay=decay: earlier ones count less, by learn.replay_rate.
    """
    from exsearch.agent.chat import ChatFormat
    from exsearch.cli.training import run_training
    from exsearch.core.errors import UsageError
    from exsearch.em.learn import refuse_unused
    from exsearch.em.replay import learned_from
    from exsearch.engine.models.builtin import resolve_model
    from exsearch.training.job import Job

    config = settings(recipe, overrides, model__path=model)
    rollouts = _pairs(files)
    if config.learn.replay == "ratios":
        raise UsageError(
            "learn.replay = ratios scores earlier trajectories again, as `exsearch train` does between its stages; use "
            "learn.replay=decay here"
        )
    if len(rollouts) > 1 and config.learn.replay == "none":
        raise UsageError(
            f"{len(rollouts)} journals, and learn.replay = none; say how much the earlier ones count: "
            "--set learn.replay=decay, and learn.replay_rate=0 if all count alike"
        )
    refuse_unused(config.learn, "orders", "warmup_mix")
    base = resolve_model(config.model.path)
    examples, sources = learned_from(rollouts, ChatFormat.load(base, config.agent), config.learn)
    job = Job.of(base, examples, out, config.learn, config.model, config.seed, "learn")
    run_training(job, config.tracking, as_json, sources)


def _pairs(files: tuple[Path, ...]) -> "list[Rollouts]":
    """Pair each journal with its weights. Raises UsageError for an odd number of files."""
    from exsearch.core.errors import UsageError
    from exsearch.em.replay import Rollouts

    if len(files) % 2:
        raise UsageError(f"{files[-1]}: name each journal, followed by the file of its weights")
    return [Rollouts(str(journal), journal, weights) for journal, weights in zip(files[::2], files[1::2], strict=True)]
