"""`exsearch train`: the EM loop from a recipe."""

from pathlib import Path

import click

from exsearch.cli.options import json_option, set_option


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder. Default: runs/ and the recipe's name.")
@set_option
@click.option("--resume", is_flag=True, help="Fail if there is no run to resume. (A run is resumed in any case.)")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and stop.")
@json_option
def train(
    recipe: Path, out: Path | None, overrides: tuple[str, ...], resume: bool, dry_run: bool, as_json: bool
) -> None:
    """Run the EM loop of the file RECIPE. Run the same command again to resume."""
    from exsearch.config import dump_config, load_config
    from exsearch.core.errors import UsageError
    from exsearch.runs.layout import RunLayout

    config = load_config(recipe, list(overrides))
    if dry_run:
        click.echo(dump_config(config), nl=False)
        return
    out = out or Path("runs") / recipe.stem
    if resume and not RunLayout(out).config.exists():
        raise UsageError(f"{out}: no run to resume")
    from exsearch.cli.narrate import print_table
    from exsearch.core.locks import sole_writer
    from exsearch.em.loop import EMRun
    from exsearch.em.summary import encode_summary
    from exsearch.report.write import write_report

    with sole_writer(out):
        summary = EMRun(config, out, lambda line: click.echo(line, err=True)).run()
        report = write_report(out)
    if as_json:
        click.echo(encode_summary(summary))
    else:
        print_table(out, summary)
        click.echo(f"report: {report}")
