"""`exsearch quickstart`: from scratch to a search agent that has learned from its own trajectories."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import json_option, set_option

if TYPE_CHECKING:
    from exsearch.config import Config
    from exsearch.runs.records import RunSummary
    from exsearch.world import Split

PASSAGES = 3000
QUESTIONS: dict["Split", int] = {"train": 300, "dev": 16, "test": 100}
RELATIONS = (
    "birthplace",
    "studied_at",
    "employer",
    "first_mayor",
    "uni_city",
    "uni_founder",
    "company_city",
    "company_founder",
)
"""Relations that the questions are about, few enough to be learned in minutes. The passages cover all relations."""


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/quickstart"), show_default=True, help="Run folder."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the world and the run.")
@set_option
@json_option
def quickstart(out: Path, seed: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train a search agent on the embedded model and a built-in world; about eleven minutes on two cores.

    Run the same command again to resume.
    """
    from exsearch.core.locks import sole_writer
    from exsearch.em.loop import EMRun
    from exsearch.em.summary import encode_summary
    from exsearch.report.write import write_report

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with sole_writer(out):
        config = _prepare(out, seed, overrides, say)
        summary = EMRun(config, out, say).run()
        report = write_report(out)
    if as_json:
        click.echo(encode_summary(summary))
    else:
        _show(out, summary, report)


def _prepare(out: Path, seed: int, overrides: tuple[str, ...], say: Callable[[str], None]) -> "Config":
    """Generate the world and its index unless they exist; return the recipe's config with their paths."""
    from exsearch.config import load_config
    from exsearch.core.jsonl import write_jsonl
    from exsearch.corpus.store import Corpus, write_corpus
    from exsearch.retrieval.index.build import build_index
    from exsearch.runs.folder import RunFolder
    from exsearch.world import World

    world_folder, index = out / "world", out / "index"
    folder = RunFolder(out)
    # an existing run keeps its own recipe, which may be of another version
    recipe = folder.config if folder.config.exists() else Path(str(files("exsearch") / "recipes" / "quickstart.toml"))
    paths = [f"data.index={index}", *(f"data.{split}={world_folder / split}.jsonl" for split in QUESTIONS)]
    config = load_config(recipe, [*paths, f"seed={seed}", *overrides])
    folder.claim(folder.as_its_version_did(config)[0])
    say(f"World: {PASSAGES} passages of an invented encyclopaedia, and questions about it (seed {seed}).")
    world = World(seed=seed, passages=PASSAGES)
    if not (world_folder / "corpus").exists():
        write_corpus(world_folder / "corpus", world.passages(), total=PASSAGES)
    for split, count in QUESTIONS.items():
        questions = world.questions(split, count, hops=[1], relations=RELATIONS)
        write_jsonl(world_folder / f"{split}.jsonl", questions)
    say("Index: BM25 over the passages.")
    if not index.exists():
        build_index(Corpus.open(world_folder / "corpus"), "bm25", index)
    return config


def _show(out: Path, summary: "RunSummary", report: Path) -> None:
    """Print the run's results, and what to try next."""
    from exsearch.cli.narrate import print_table, print_trajectory, print_weights
    from exsearch.questions.question import read_questions
    from exsearch.runs.layout import RunLayout

    print_trajectory(out, summary)
    print_weights(out, summary.iterations[-1].name)
    print_table(out, summary)
    question = read_questions(RunLayout(out).questions("test"))[0].text
    checkpoint = RunLayout(out).checkpoint(summary.best)
    click.echo(f"\nLook:   {report}  (open it in a browser)")
    click.echo("Next, try:")
    config = RunLayout(out).config  # the model was trained with these settings
    click.echo(f'  exsearch ask "{question}" --model {checkpoint} --index {out / "index"} --config {config}')
    click.echo(f'  exsearch search {out / "index"} "{question}"')
    click.echo("  exsearch quickstart --out runs/longer --set loop.iterations=4 --set explore.questions=128")
