"""`exsearch weigh`: only the weights of the E-step."""

from pathlib import Path

import click

from exsearch.cli.options import config_option, json_option, set_option, settings


@click.command()
@click.argument("trajectories", type=click.Path(path_type=Path))
@click.argument("questions", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write (JSONL).")
@click.option("--weighting", help="paper, nll-mean, em, f1, rft, reference-v1 or uniform.")
@config_option
@set_option
@json_option
def weigh(
    trajectories: Path,
    questions: Path,
    out: Path,
    weighting: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Weigh the trajectories of a journal by the answers in QUESTIONS. All weightings work on the same journal."""
    import dataclasses
    import json

    from exsearch.agent.origin import check_questions
    from exsearch.agent.trajectory import Trajectory
    from exsearch.core.jsonl import read_jsonl, write_jsonl
    from exsearch.em.weigh import summarise
    from exsearch.em.weigh import weigh as run
    from exsearch.questions.question import read_questions

    config = settings(recipe, overrides, weigh__weighting=weighting)
    records = read_questions(questions, unanswered=True)
    check_questions(trajectories, records)
    weighted = run(list(read_jsonl(trajectories, Trajectory)), records, config.weigh)
    write_jsonl(out, weighted, sealed=True)
    figures = dataclasses.asdict(summarise(weighted))
    if as_json:
        click.echo(json.dumps({"out": str(out), **figures}))
        return
    click.echo(f"{out}: {len(weighted)} weights ({config.weigh.weighting})")
    for name, value in figures.items():
        click.echo(f"  {name.replace('_', ' ')}: {value}")
