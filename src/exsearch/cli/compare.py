"""`exsearch compare`: two evaluations on the same questions."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import json_option
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.evaluation.compare import Comparison, Group, PairedQuestion

LISTED = 5
"""Wins, and losses, that are printed; --json has all."""
"""Maximum number of wins, and of losses, to print; --json prints all."""


@click.command()
@click.argument("a", metavar="DIR_A", type=click.Path(path_type=Path))
@click.argument("b", metavar="DIR_B", type=click.Path(path_type=Path))
@click.option("--metric", default="em", show_default=True, help="Metric that decides wins and losses.")
@click.option("--questions", type=click.Path(path_type=Path), help="Question file, if the folders contain none.")
@click.option(
    "--across-protocols", is_flag=True, help="Compare the questions that both answered although the conditions differ."
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="OUT.html", help="Also write an HTML page that shows both."
)
@json_option
def compare(
    a: Path, b: Path, metric: str, questions: Path | None, across_protocols: bool, report: Path | None, as_json: bool
) -> None:
    """Compare the evaluation DIR_B with DIR_A: paired differences, wins and losses, and where they come from.

    Each is a folder of `exsearch eval`, or of one model in a run, such as RUN/eval/iter-1.
    """
    import msgspec

    from exsearch.evaluation.compare import compare as run
    from exsearch.runs.evaluations import read_evaluation

    before, after = read_evaluation(a, questions), read_evaluation(b, questions)
    comparison = run(before, after, metric, across_protocols)
    if report is not None:
        from exsearch.report.write import write_comparison_report

        write_comparison_report(before, after, comparison, report)
    if as_json:
        click.echo(msgspec.json.encode(comparison).decode())
        return
    _print(comparison)
    if report is not None:
        click.echo(f"\n{report}")


def _print(comparison: "Comparison") -> None:
    click.echo(f"A  {printable(comparison.a)}\nB  {printable(comparison.b)}")
    one, other = comparison.protocols
    if one == other:
        click.echo(f"protocol {one}, n = {comparison.n}")
    else:
        click.echo(f"NOT THE SAME PROTOCOL: {one} and {other}, n = {comparison.n} in common")
    for each in comparison.protocol_differences:
        click.echo(printable(f"  {each.field}: {each.a} and {each.b}"))
    if comparison.only_a or comparison.only_b:
        click.echo(f"skipped, since the other did not answer them: {comparison.only_a} of A, {comparison.only_b} of B")
    click.echo()
    head = ["", "A", "B", "B - A", "95% interval", "n", ""]
    rows = [
        [
            each.metric,
            f"{each.a:.3f}",
            f"{each.b:.3f}",
            *_interval(each.difference.mean, each.difference.low, each.difference.high),
            str(each.difference.n),
            "significant" if each.significant else "not significant",
        ]
        for each in comparison.differences
    ]
    _table([head, *rows])
    wins, losses, ties = len(comparison.wins), len(comparison.losses), len(comparison.ties)
    click.echo(f"\n{comparison.metric}: wins (B higher) {wins}, losses (A higher) {losses}, ties {ties}")
    for kind, groups in comparison.breakdowns.items():
        click.echo()
        _breakdown(kind, groups)
    for title, pairs in (("wins", comparison.wins), ("losses", comparison.losses)):
        _list(title, pairs)


def _interval(mean: float, low: float, high: float) -> list[str]:
    # plus zero turns -0.0 into 0.0
    return [f"{mean + 0.0:+.3f}", f"[{low + 0.0:+.3f}, {high + 0.0:+.3f}]"]


def _breakdown(kind: str, groups: "list[Group]") -> None:
    head = [kind, "A", "B", "B - A", "95% interval", "n", "wins", "losses", "ties", "of the whole"]
    rows = [
        [
            printable(each.name),
            f"{each.a:.3f}",
            f"{each.b:.3f}",
            *_interval(each.difference.mean, each.difference.low, each.difference.high),
            *map(str, (each.difference.n, each.wins, each.losses, each.ties)),
            f"{each.share:+.3f}",
        ]
        for each in groups
    ]
    _table([head, *rows])


def _table(rows: list[list[str]]) -> None:
    """Print columns: the first and those of words left-aligned, numbers right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        click.echo("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def _list(title: str, pairs: "list[PairedQuestion]") -> None:
    if not pairs:
        return
    click.echo(f"\n{title}" + (f", {LISTED} of {len(pairs)}" if len(pairs) > LISTED else ""))
    for pair in pairs[:LISTED]:
        click.echo(f"  {printable(pair.question_id)}  {printable(pair.question or '')}".rstrip())
        if pair.gold:
            click.echo(f"      gold  {printable(pair.gold[0])}")
        for letter, value, answer in (("A", pair.a, pair.answer_a), ("B", pair.b, pair.answer_b)):
            click.echo(f"      {letter} {value:.2f}  {'(none)' if answer is None else printable(answer)}")
