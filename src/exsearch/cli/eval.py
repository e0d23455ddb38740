"""`exsearch eval`: greedy answers to held-out questions, with intervals and the protocol's fingerprint."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import (
    baseline_option,
    config_option,
    experiment_on,
    index_option,
    json_option,
    model_option,
    ray_option,
    set_option,
    settings,
)

if TYPE_CHECKING:
    from exsearch.evaluation.evaluate import Evaluation
    from exsearch.evaluation.scores import Scores


@click.command("eval")
@model_option
@baseline_option
@click.option(
    "--train", type=click.Path(path_type=Path), help="For --baseline majority: the questions to take its answer from."
)
@index_option
@click.option("--questions", type=click.Path(path_type=Path), required=True, help="Question file (JSONL).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for trajectories and scores.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of questions, from the start of the file.")
@config_option
@set_option
@ray_option
@json_option
def eval_(
    model: str | None,
    baseline: str | None,
    train: Path | None,
    index: str,
    questions: Path,
    out: Path,
    limit: int | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    ray: str | None,
    as_json: bool,
) -> None:
    """Evaluate a model or a baseline. Run the same command again to resume."""
    from contextlib import closing

    import msgspec

    from exsearch.agent.agents import load_agents
    from exsearch.agent.loading import as_begun
    from exsearch.core.jsonl import write_jsonl
    from exsearch.evaluation.evaluate import Evaluation, check_folder, evaluate
    from exsearch.evaluation.folder import QUESTIONS, TRAJECTORIES
    from exsearch.evaluation.protocol import make_protocol
    from exsearch.questions.question import read_questions
    from exsearch.report.write import write_report

    grammar = None if baseline == "majority" else baseline
    config = settings(recipe, overrides, model__path=model, rollout__ray=ray, agent__grammar=grammar)
    experiment = experiment_on(index, config)
    records = read_questions(questions, limit)
    if baseline == "majority":
        protocol = make_protocol(config.agent, experiment.retriever.fingerprint, records, experiment.grammar)
        scores = _majority(train, Evaluation(out, records, protocol))
    else:
        check_folder(out, records, config.agent)
        with closing(load_agents(as_begun(experiment, out / TRAJECTORIES))) as agents:
            protocol = make_protocol(config.agent, agents.index_fingerprint, records, agents.grammar)
            [scores] = evaluate(agents, [Evaluation(out, records, protocol)], out.name, "evaluate")
    write_jsonl(out / QUESTIONS, records)
    report = write_report(out)
    if as_json:
        click.echo(msgspec.json.encode(scores).decode())
        return
    for name, figure in scores.figures.items():
        click.echo(f"{name:>15}  {figure.mean:8.3f}  [{figure.low:.3f}, {figure.high:.3f}]  n = {figure.n}")
    click.echo(f"   stop reasons  {scores.stop_reasons}")
    click.echo(f"       protocol  {scores.protocol}")
    click.echo(f"         report  {report}")


def _majority(train: Path | None, evaluation: "Evaluation") -> "Scores":
    from exsearch.core.errors import UsageError
    from exsearch.evaluation.baselines import majority
    from exsearch.questions.question import read_questions

    if train is None:
        raise UsageError("--baseline majority takes its answer from training questions: name them with --train FILE")
    return majority(read_questions(train), evaluation, evaluation.folder.name)
