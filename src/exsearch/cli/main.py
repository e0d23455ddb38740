"""The `exsearch` command: a table of verbs, each loaded when it is called."""

import importlib
from typing import NoReturn

import click

from exsearch import __version__
from exsearch.core.errors import nearest
from exsearch.processes import stopping
from exsearch.processes.command import run_command

VERBS = {
    "quickstart": "Train a search agent from scratch in minutes, and explain each stage.",
    "ask": "Answer a question by searching, step by step.",
    "corpus": "Import passages, or generate a synthetic benchmark.",
    "data": "Import questions, retrieve documents for them, write warm-up trajectories.",
    "index": "Build an index of a corpus.",
    "search": "Search an index.",
    "serve": "Serve an index over HTTP or MCP, or check a server.",
    "retriever": "Train the encoder of late-interaction indexes.",
    "warmup": "Teach a model the grammar from gold trajectories.",
    "explore": "E-step: sample trajectories of training questions.",
    "weigh": "E-step: weigh trajectories by how likely they make the right answer.",
    "learn": "M-step: fine-tune on weighted trajectories.",
    "train": "Run the whole EM loop from a recipe.",
    "eval": "Evaluate a model on held-out questions.",
    "compare": "Compare two evaluations on the same questions.",
    "score": "Score a file of predictions under any normaliser.",
    "export": "Export a run's best model, with a model card, for other tools.",
    "view": "Write the report of a run or an evaluation as one HTML page.",
    "verify": "Find damaged files in corpora, indexes, checkpoints and runs.",
    "doctor": "Show what is installed, what is missing and how to install it.",
}


class Verbs(click.Group):
    """Imports `exsearch.cli.<verb>` only when that verb runs, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which a new user needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the verb's module, or refuse with the nearest verb."""
        if name not in VERBS:
            ctx.fail(f"no verb {name!r}{nearest(name, list(VERBS))}")
        command = getattr(importlib.import_module(f"exsearch.cli.{name}"), f"{name}_" if name == "eval" else name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="exsearch")
def exsearch() -> None:
    """Train and run agentic-search language models by expectation-maximisation.

    Start with `exsearch quickstart`.
    """


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 bad usage; errors are one line on stderr."""
    run_command(_verb)


def _verb() -> None:
    try:
        exsearch(standalone_mode=False)
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        stopping.leave(2)


if __name__ == "__main__":
    main()
