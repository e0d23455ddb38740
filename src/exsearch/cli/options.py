"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from exsearch.agent.rollout import Agent
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
model_option = click.option("--model", help="builtin:smollm2-135m, a checkpoint folder, or a Hugging Face id.")


def settings(recipe: Path | None, overrides: tuple[str, ...], **chosen: str | None) -> "Config":
    """Return the config of a recipe, `--set` overrides and options, in rising precedence.

    `chosen` maps dotted keys, with `__` for the dot, to option values; None leaves the key alone.
    """
    from exsearch.config import load_config, parse_config

    changes = [*overrides]
    changes += [f"{key.replace('__', '.')}={value}" for key, value in chosen.items() if value is not None]
    return parse_config({}, changes, "settings") if recipe is None else load_config(recipe, changes)


def make_agent(config: "Config", index: str) -> "Agent":
    """Load the model and open the index of a config."""
    from exsearch.agent.chat import ChatFormat
    from exsearch.agent.rollout import Agent
    from exsearch.engine.builtin import resolve_model
    from exsearch.engine.load import load_engine
    from exsearch.retrieval.opening import open_retriever

    retriever = open_retriever(index, record_to=record_file(config))
    folder = resolve_model(config.model.path)
    engine = load_engine(folder, config.model, config.explore.batch_size)
    return Agent(engine, retriever, ChatFormat.load(folder), config.agent)


def record_file(config: "Config") -> Path | None:
    """Return the file that a config wants searches recorded in, if any."""
    return Path(config.data.record) if config.data.record else None
