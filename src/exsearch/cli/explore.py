"""`exsearch explore`: only the sampling of the E-step."""

from pathlib import Path

import click

from exsearch.cli.options import (
    config_option,
    experiment_on,
    index_option,
    json_option,
    model_option,
    ray_option,
    set_option,
    settings,
)


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@index_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Journal to write or continue (JSONL).")
@model_option
@config_option
@set_option
@ray_option
@json_option
def explore(
    questions: Path,
    index: str,
    out: Path,
    model: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    ray: str | None,
    as_json: bool,
) -> None:
    """Sample K trajectories per question in the file QUESTIONS, scored against its gold answers."""
    import json
    from collections import Counter
    from contextlib import closing

    from exsearch.agent.agents import load_agents
    from exsearch.agent.loading import as_begun
    from exsearch.em.explore import check_journal
    from exsearch.em.explore import explore as run
    from exsearch.questions.question import read_questions

    config = settings(recipe, overrides, model__path=model, rollout__ray=ray)
    records = read_questions(questions, unanswered=True)
    check_journal(out, records, config)
    with closing(load_agents(as_begun(experiment_on(index, config), out))) as agents:
        trajectories = run(agents, records, config.explore, config.seed, out)
    stops = dict(Counter(trajectory.stop_reason.value for trajectory in trajectories))
    if as_json:
        click.echo(json.dumps({"trajectories": len(trajectories), "stop_reasons": stops, "out": str(out)}))
    else:
        click.echo(f"{out}: {len(trajectories)} trajectories of {len(records)} questions; {stops}")
