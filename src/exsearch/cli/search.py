"""`exsearch search`: search an index."""

import textwrap
from pathlib import Path

import click

from exsearch.core.messages import printable


@click.command()
@click.argument("index")
@click.argument("query")
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="Number of hits.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Corpus folder of the index, if it has moved.")
@click.option("--json", "as_json", is_flag=True, help="Print the hits as a JSON array.")
def search(index: str, query: str, k: int, corpus: Path | None, as_json: bool) -> None:
    """Print the best passages for QUERY of INDEX: an index folder, the URL of a server, or replay:FILE."""
    import msgspec

    from exsearch.retrieval.open import open_retriever

    [hits] = open_retriever(index, corpus).search([query], k)
    if as_json:
        click.echo(msgspec.json.encode(hits).decode())
        return
    if not hits:
        click.echo("no passage matches", err=True)
    for hit in hits:
        click.echo(f"{hit.rank:>3}. {hit.score:8.3f}  {printable(hit.passage.title)}")
        snippet = textwrap.shorten(printable(hit.passage.text), 200, placeholder=" ...")
        click.echo(textwrap.indent(textwrap.fill(snippet, 90), " " * 15))
