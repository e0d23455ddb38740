"""`exsearch data`: question files and what is made from them. Each command has its own file."""

import click

from exsearch.cli.data_import import import_
from exsearch.cli.data_retrieve import retrieve
from exsearch.cli.data_warmup import warmup


@click.group()
def data() -> None:
    """Import questions of public data sets, retrieve documents for them, write warm-up trajectories."""


data.add_command(import_)
data.add_command(retrieve)
data.add_command(warmup)
