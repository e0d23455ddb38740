"""`exsearch score`: score predictions under one normaliser, or under all of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import json_option
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.evaluation.predictions import Matched
    from exsearch.evaluation.rescore import Rescored
    from exsearch.evaluation.scores import Figure
    from exsearch.questions.question import Question


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--questions", type=click.Path(path_type=Path), required=True, help="Question file (JSONL).")
@click.option("--normaliser", default="squad", show_default=True, help="Name of a normaliser, or all.")
@click.option("--other", type=click.Path(path_type=Path), help="Second file of predictions, to compare with the first.")
@click.option(
    "--judge", "url", help="OpenAI-compatible endpoint, ending in /v1, of a model that also judges the answers."
)
@click.option("--judge-model", help="Name of the judge at the endpoint.")
@click.option("--judge-key-file", type=click.Path(path_type=Path), help="File with the endpoint's API key.")
@json_option
def score(
    predictions: Path,
    questions: Path,
    normaliser: str,
    other: Path | None,
    url: str | None,
    judge_model: str | None,
    judge_key_file: Path | None,
    as_json: bool,
) -> None:
    """Score the file PREDICTIONS of any system against the gold answers of a question file.

    PREDICTIONS is a trajectories.jsonl, JSON lines or a JSON list with an id and an answer, {id: answer}, or in the
    format of HotpotQA, 2WikiMultihopQA, MuSiQue, KILT, FlashRAG or SearchLM. A question without a prediction counts
    as wrong.
    """
    import msgspec

    from exsearch.core.errors import UsageError
    from exsearch.core.registry import unknown
    from exsearch.evaluation.predictions import match, read_predictions
    from exsearch.evaluation.rescore import report, values
    from exsearch.questions.normalise import NORMALISERS
    from exsearch.questions.question import read_questions

    if normaliser not in ("all", *NORMALISERS):
        raise UsageError(unknown(NORMALISERS.noun, normaliser, ["all", *NORMALISERS]))
    if bool(url) != bool(judge_model):
        raise UsageError("--judge and --judge-model go together: a URL, and the model's name there")
    if judge_key_file and not url:
        raise UsageError("--judge-key-file goes with --judge")
    names = list(NORMALISERS) if normaliser == "all" else [normaliser]
    gold = read_questions(questions, emptied=True)  # the report lists emptied answers by normaliser
    files = [match(read_predictions(path), gold) for path in (predictions, other) if path is not None]
    scored = [values(gold, file.answers, names) for file in files]
    if url and judge_model:
        for file, columns in zip(files, scored, strict=True):
            columns["judge"] = {judge_model: _judged(url, judge_model, judge_key_file, gold, file)}
    rescored = report(gold, files, scored)
    if as_json:
        click.echo(msgspec.json.encode(rescored).decode())
        return
    for name, ids in rescored.emptied.items():
        _named(f"{name} leaves an empty gold answer for", ids, "every answer that becomes empty matches it")
    for each in rescored.predictions:
        _print(each, len(names) > 1)
    if rescored.difference:
        click.echo(f"\n{other} minus {predictions}, paired, points")
        _rows(rescored.difference, "+.2f")


def _judged(
    url: str, model: str, key_file: Path | None, questions: "list[Question]", predictions: "Matched"
) -> list[float]:
    """Return the judge's verdicts, which are stored next to the predictions."""
    from exsearch.engine.openai.endpoint import Endpoint
    from exsearch.evaluation.judge import judge
    from exsearch.network.api_key import read_api_key

    endpoint = Endpoint(url, read_api_key(key_file) if key_file else None, seconds=600.0)
    journal = predictions.path.with_name(f"{predictions.path.name}.verdicts.jsonl")
    return judge(endpoint, model, questions, predictions.answers, journal)


def _print(file: "Rescored", several: bool) -> None:
    click.echo(f"\n{file.path} (answers in {file.field!r}), percent")
    _named("no prediction for", file.missing, "counted as wrong")
    _named("an empty prediction for", file.unanswered, "counted as wrong")
    _named("no such question for predictions of", file.extra, "not scored")
    _rows(file.figures, ".2f")
    if several:
        click.echo("  the same predictions, highest normaliser minus lowest, points")
        for metric, spread in file.spread.items():
            which = f"{spread.highest} minus {spread.lowest}" if spread.difference.mean else "no difference"
            click.echo(f"  {metric:<18}{_interval(spread.difference, '+.2f')}  {which}")


def _rows(figures: "dict[str, dict[str, Figure]]", style: str) -> None:
    for name, columns in figures.items():
        for metric, one in columns.items():
            click.echo(f"  {name:<13}{metric:<18}{_interval(one, style)}")


def _interval(one: "Figure", style: str) -> str:
    mean, low, high = (format(100 * value, style) for value in (one.mean, one.low, one.high))
    interval = f"[{low}, {high}]"
    return f"{mean:>7}  {interval:<18}  n = {one.n}"


def _named(what: str, ids: list[str], then: str) -> None:
    from exsearch.evaluation.predictions import named

    if ids:
        click.echo(f"  {what} {len(ids)} ({printable(named(ids))}): {then}")
