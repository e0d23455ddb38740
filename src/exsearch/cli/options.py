"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from exsearch.agent.experiment import Experiment
    from exsearch.config import Config

F = TypeVar("F", bound=Callable[..., object])

config_option = click.option(
    "--config",
    "recipe",
    type=click.Path(path_type=Path),
    help="TOML recipe; only what it names differs from the defaults.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, such as explore.samples=8.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
index_option = click.option("--index", required=True, help="Index folder, URL of a server, or replay:FILE.")
ray_option = click.option(
    "--ray", metavar="ADDRESS", help="Roll out on this Ray cluster: auto, local (this machine) or HOST:PORT."
)
BASELINES = ("closed-book", "majority", "one-shot", "ircot", "self-ask")
baseline_option = click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    help="Evaluate a baseline instead of the agent, under the same conditions.",
)
model_option = click.option("--model", help="builtin:smollm2-135m, a checkpoint folder, or a Hugging Face id.")


def layout_option(description: str) -> Callable[[F], F]:
    """Return the option `--format`, described by what its two values write."""
    return click.option(
        "--format",
        "layout",
        type=click.Choice(["ours", "reference"]),
        default="ours",
        show_default=True,
        help=description,
    )


def settings(recipe: Path | None, overrides: tuple[str, ...], **options: str | None) -> "Config":
    """Return the config of a recipe, `--set` overrides and options, in rising precedence.

    `options` maps dotted keys, with `__` for the dot, to option values; None means that the option was not given.
    """
    from exsearch.config import load_config, parse_config

    changes = [*overrides]
    changes += [f"{key.replace('__', '.')}={value}" for key, value in options.items() if value is not None]
    return parse_config({}, changes, "settings") if recipe is None else load_config(recipe, changes)


def experiment_on(index: str, config: "Config") -> "Experiment":
    """Return an experiment with the index that the option names, whatever the recipe says."""
    import msgspec

    from exsearch.agent.experiment import Experiment

    return Experiment(msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, index=index)))
