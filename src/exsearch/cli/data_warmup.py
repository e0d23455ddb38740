"""`exsearch data warmup`: write warm-up trajectories to a file, from annotations or by a teacher."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import (
    config_option,
    experiment_on,
    index_option,
    json_option,
    layout_option,
    model_option,
    set_option,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exsearch.agent.chat import ChatFormat
    from exsearch.agent.trajectory import Trajectory
    from exsearch.config import Config
    from exsearch.retrieval.base import Retriever
    from exsearch.warmup.quality import WarmupReport
    from exsearch.warmup.teacher import Teacher


def _price(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        prompt, completion = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(
            "write two numbers, such as 0.15,0.60: the price of a million prompt and of a million completion tokens"
        ) from None
    return prompt, completion


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@index_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of trajectories to write (JSONL).")
@model_option
@click.option(
    "--gold",
    type=click.Choice(["require", "insert"]),
    help="A gold passage that the index does not return: skip the question, or insert the passage. Sets warmup.gold.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of questions, from the start of the file.")
@click.option("--teacher", metavar="URL", help="Chat endpoint, ending in /v1, of a model that writes the trajectories.")
@click.option("--teacher-model", metavar="NAME", help="Name of the teacher at the endpoint.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File that contains the API key of the endpoint.")
@click.option(
    "--attempts", type=click.IntRange(min=1), default=2, show_default=True, help="Attempts of the teacher per question."
)
@click.option(
    "--price", metavar="IN,OUT", callback=_price, help="Price of a million prompt and completion tokens of the teacher."
)
@layout_option("JSON lines of trajectories, or SearchLM's JSON list of conversations with `messages`.")
@config_option
@set_option
@json_option
def warmup(
    questions: Path,
    index: str,
    out: Path,
    model: str | None,
    gold: str | None,
    limit: int | None,
    teacher: str | None,
    teacher_model: str | None,
    api_key_file: Path | None,
    attempts: int,
    price: tuple[float, float] | None,
    layout: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write warm-up trajectories for the questions in the file QUESTIONS.

    They come from annotations (decompositions, or gold passages with evidence) or, with --teacher, from a stronger
    model that plays the agent. A quality report is printed and written next to OUT. Only the tokenizer of --model is
    used. Run the same command again to resume.
    """
    import msgspec

    from exsearch.agent.loading import resumable_retriever
    from exsearch.core.atomic import require_distinct_paths
    from exsearch.core.errors import UsageError
    from exsearch.core.jsonl import write_json, write_json_list, write_jsonl
    from exsearch.questions.question import read_questions
    from exsearch.warmup.plan import GoldPassages
    from exsearch.warmup.quality import Quality
    from exsearch.warmup.write import GOLD, gold_outcomes

    if bool(teacher) != bool(teacher_model):
        raise UsageError("--teacher and --teacher-model go together: the URL, and the model's name there")
    config = settings(recipe, overrides, model__path=model, warmup__gold=gold)
    require_distinct_paths(out, [questions])
    records = read_questions(questions, limit)
    experiment = experiment_on(index, config)
    chat = experiment.chat
    quality = Quality(chat)

    def write(trajectories: "Iterator[Trajectory]") -> None:
        if layout == "ours":
            write_jsonl(out, trajectories)
        else:
            write_json_list(out, ({"messages": chat.messages(each.token_ids)} for each in trajectories))

    with resumable_retriever(experiment, out) as retriever:
        if teacher and teacher_model:
            writer = _teacher(teacher, teacher_model, api_key_file, config, chat, retriever, attempts, out)
            write(quality.count(writer.outcomes(records)))
            report = quality.report(retriever.fingerprint, teacher_model, writer.cost(price))
        else:
            passages = GoldPassages.of(experiment)
            write(quality.count(gold_outcomes(records, retriever, chat, config.agent, passages)))
            report = quality.report(retriever.fingerprint, GOLD)
    write_json(out.with_suffix(".report.json"), report)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(out, report)


def _teacher(
    url: str,
    name: str,
    key_file: Path | None,
    config: "Config",
    chat: "ChatFormat",
    retriever: "Retriever",
    attempts: int,
    out: Path,
) -> "Teacher":
    from exsearch.config import ModelConfig
    from exsearch.warmup.teacher import Teacher, teacher_agent

    endpoint = ModelConfig(engine="openai", api="chat", url=url, name=name, api_key_file=str(key_file or ""))
    agent = teacher_agent(endpoint, config, chat, retriever)
    return Teacher(agent, name, chat, config, attempts, out.with_suffix(".teacher.jsonl"))


def _print(out: Path, report: "WarmupReport") -> None:
    click.echo(f"{out}: {report.trajectories} trajectories for {report.questions} questions, by {report.written_by}")
    for reason, count in report.skipped.items():
        click.echo(f"  skipped, {reason}: {count}")
    click.echo(f"  evidence found word for word in the passages read: {report.evidence_read:.1%}")
    click.echo(f"  words of the evidence found in them: {report.evidence_words:.1%}")
    click.echo(f"  answer in the recorded facts: {report.answer_follows:.1%}")
    click.echo(
        f"  per trajectory: {report.mean_steps} searches, {report.mean_tokens} tokens "
        f"({report.mean_learned_tokens} trained on)"
    )
    click.echo(f"  gold passages inserted: {report.gold_inserted}, in {report.trajectories_with_inserted} trajectories")
    if report.teacher is not None:
        cost = report.teacher
        click.echo(f"  attempts of the teacher: {cost.attempts}; failed: {cost.failed}")
        price = "" if cost.price is None else f", {cost.price:.4f} in total"
        click.echo(
            f"  its tokens: {cost.prompt_tokens} in ({cost.cached_tokens} cached), {cost.completion_tokens} out{price}"
        )
