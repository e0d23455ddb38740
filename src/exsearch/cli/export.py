"""`exsearch export`: copy a run's model to a folder for other tools."""

from pathlib import Path

import click

from exsearch.cli.options import json_option


@click.command()
@click.argument("run", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--model", "name", help="warmup or iter-N. Default: the best on the validation questions.")
@click.option("--licence", help="Licence of the model that the run began with, such as apache-2.0.")
@click.option("--push", "repository", metavar="OWNER/NAME", help="Also upload the folder to the model hub.")
@json_option
def export(run: Path, out: Path, name: str | None, licence: str | None, repository: str | None, as_json: bool) -> None:
    """Copy a model of RUN_DIR, with tokenizer and model card, to a folder that other tools can load."""
    from exsearch.em import export as exporting

    model = exporting.export(run, out, name, licence)
    address = exporting.push(out, repository) if repository else None
    if as_json:
        import json

        click.echo(json.dumps({"model": model, "folder": str(out), "hub": address}))
    else:
        click.echo(f"{out}: {model} of {run}" + (f", uploaded to {address}" if address else ""))
