"""`exsearch data`: question files and what is made of them. Each command is in a file of its own."""

import click

from exsearch.cli.data_retrieve import retrieve
from exsearch.cli.data_warmup import warmup


@click.group()
def data() -> None:
    """Make warm-up trajectories of questions, and pair questions with documents."""


data.add_command(warmup)
data.add_command(retrieve)
