"""`exsearch view`: a run or an evaluation as one HTML page."""

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--open/--no-open", "show", default=False, help="Open the page in the browser. Off by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def view(run: Path, show: bool, as_json: bool) -> None:
    """Write DIR/report.html: figures and trajectories of an evaluation, or of a run, finished or not."""
    from exsearch.report.write import write_report

    target = write_report(run)
    if as_json:
        import json

        click.echo(json.dumps({"report": str(target), "bytes": target.stat().st_size}))
    else:
        click.echo(str(target))
    if show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
