"""`exsearch data`: question files and what is made of them. Each command is in a file of its own."""

import click

from exsearch.cli.data_import import import_


@click.group()
def data() -> None:
    """Import questions of known data sets, check them, and find their gold passages."""


data.add_command(import_)
