"""`exsearch ask`: one question, answered step by step."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import config_option, experiment_on, json_option, set_option, settings
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.agent.episode import Episode

QUICKSTART = Path("runs/quickstart")


@click.command()
@click.argument("question", metavar="[FOLDER] QUESTION", nargs=-1, required=True)
@click.option("--model", help="A checkpoint folder or model name. Default: the quickstart's best model.")
@click.option("--index", help="Index folder, URL of a server, or replay:FILE. Default: the quickstart's.")
@config_option
@set_option
@json_option
def ask(
    question: tuple[str, ...],
    model: str | None,
    index: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Answer QUESTION by searching: each sub-query, passage and recorded fact is shown as it comes.

    With FOLDER, it is answered from the documents in it. Their index is kept in the cache folder; what has changed
    since is read again.
    """
    from exsearch.core.errors import UsageError

    *folders, text = question
    if not text.strip():
        raise UsageError("the question is empty")
    if len(folders) > 1:
        raise UsageError("put the question into quotes: it is one argument, after the folder if there is one")
    if folders and index is not None:
        raise UsageError("a folder of documents has an index of its own; leave out FOLDER or --index")
    if folders:
        from exsearch.retrieval.index.of_documents import index_of_documents

        index = str(index_of_documents(Path(folders[0]), lambda line: click.echo(f"  {printable(line)}", err=True)))
    if model is None or index is None:
        model, index, recipe = _quickstart(model, index, recipe)
    config = settings(recipe, overrides, model__path=model, rollout__in_flight="1")
    import msgspec

    from exsearch.agent.loading import load_agent  # imports torch, after the options are checked
    from exsearch.agent.rollout import Draw
    from exsearch.questions.question import Question

    agent = load_agent(experiment_on(index, config))
    narrator = Narrator()
    [trajectory] = agent.rollout(
        [(Question("ask", text, ["?"]), 0)],
        Draw(seed=0, temperature=0.0),
        on_step=(lambda episode: None) if as_json else narrator.show,
    )
    if as_json:
        click.echo(msgspec.json.encode(trajectory).decode())


def _quickstart(model: str | None, index: str | None, recipe: Path | None) -> tuple[str, str, Path | None]:
    """Replace what the user did not name by the quickstart's best model, index and settings."""
    from exsearch.core.errors import UsageError
    from exsearch.core.jsonl import read_json
    from exsearch.runs.layout import RunLayout
    from exsearch.runs.records import RunSummary

    folder = RunLayout(QUICKSTART)
    if not folder.summary.exists():
        raise UsageError(
            "name --model and --index, or run `exsearch quickstart` first, whose model and index are the default"
        )
    best = str(folder.checkpoint(read_json(folder.summary, RunSummary).best))
    return model or best, index or str(QUICKSTART / "index"), recipe or folder.config


class Narrator:
    """Prints what each turn adds to an episode."""

    def __init__(self) -> None:
        """Start with nothing printed."""
        self._steps = self._facts = 0

    def show(self, episode: "Episode") -> None:
        """Print new evidence, then the new search, then the answer with the passages it rests on."""
        steps = episode.steps
        for step in steps[self._facts :]:
            if step.evidence is None:
                break
            self._facts += 1
            if step.selected is not None:
                passages = ", ".join(f"[{self._facts}.{rank}]" for rank in step.selected)
                click.secho(f"  select  {passages or 'none'}", fg="yellow")
            click.secho(f"  record  {printable(step.evidence)}", fg="yellow")
        for step in steps[self._steps :]:
            self._steps += 1
            click.secho(f"  think   {printable(step.query)}", fg="cyan")
            for hit in step.hits:
                title, text = printable(hit.passage.title), printable(" ".join(hit.passage.text.split()))
                click.secho(f"  search  [{self._steps}.{hit.rank}] {title}: {text}", dim=True)
        if episode.stop_reason is not None:
            self._conclude(episode)

    def _conclude(self, episode: "Episode") -> None:
        if episode.answer is None:
            click.secho(f"  no answer: {episode.stop_reason}", fg="red")
            return
        click.secho(f"  answer  {printable(episode.answer)}", fg="green", bold=True)
        from exsearch.evaluation.evidence_metrics import supports

        for number, step in enumerate(episode.steps, start=1):
            for hit in step.hits:
                if step.evidence and supports(hit.passage.title, hit.passage.text, step.evidence):
                    passage = printable(f"{hit.passage.title} ({hit.passage.id})")
                    click.echo(f"          rests on [{number}.{hit.rank}] {passage}")
