"""`exsearch data import`: convert question files of other formats to ours."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exsearch.cli.options import json_option
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.questions.importer import ImportedQuestions

_path = click.Path(path_type=Path)


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_path)
@click.option("--out", type=_path, required=True, help="Question file to write.")
@click.option("--format", default="auto", show_default=True, help="Format of the files.")
@click.option("--corpus", "folder", type=_path, help="Corpus folder in which to look for the gold passages.")
@click.option("--against", type=_path, multiple=True, help="Question file that must not share a question. Repeatable.")
@click.option("--drop-leaks", is_flag=True, help="Skip questions that occur in another file or twice.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of questions to keep, from the start.")
@click.option("--decompositions", type=_path, help="Sub-questions of 2WikiMultihopQA, JSON lines.")
@click.option("--aliases", type=_path, help="id_aliases.json of 2WikiMultihopQA.")
@json_option
def import_(
    files: tuple[Path, ...],
    out: Path,
    format: str,
    folder: Path | None,
    against: tuple[Path, ...],
    drop_leaks: bool,
    limit: int | None,
    decompositions: Path | None,
    aliases: Path | None,
    as_json: bool,
) -> None:
    """Convert the questions of FILE... to one question file.

    Recognised formats: HotpotQA, 2WikiMultihopQA, MuSiQue, Natural Questions (open), TriviaQA, PopQA, Bamboogle,
    Search-R1, FlashRAG, SearchLM, KILT, our own question files, and any records with `question` and `answer` or
    `answers`; as JSON, JSON lines, Parquet, comma- or tab-separated.
    """
    from exsearch.corpus.store import Corpus
    from exsearch.questions.importer import import_questions

    corpus = None if folder is None else Corpus.open(folder)
    imported = import_questions(
        files,
        out,
        None if format == "auto" else format,
        corpus=corpus,
        against=against,
        limit=limit,
        drop_leaks=drop_leaks,
        decompositions=decompositions,
        names=aliases,
    )
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"out": str(out), **msgspec.to_builtins(imported, enc_hook=str)}))
    else:
        _describe(out, imported)


def _say(line: str) -> None:
    click.echo(printable(line), err=True)


def _describe(out: Path, imported: "ImportedQuestions") -> None:
    from exsearch.questions.importer import MAX_EXAMPLES_SHOWN, reasons

    formats = ", ".join(imported.formats)
    click.echo(f"{out}: {imported.questions} questions ({formats}), {imported.answers} answers")
    if imported.hops:
        hops = [f"{count} questions with {number}" for number, count in sorted(imported.hops.items())]
        click.echo("hops: " + ", ".join(hops))
    if imported.with_sub_questions:
        click.echo(f"sub-questions: {imported.with_sub_questions} questions have them")
    for name, usage in (("decompositions", imported.decompositions), ("aliases", imported.aliases)):
        if usage:
            click.echo(f"{name}: {usage.used} lines used, {usage.unused} not")
            if usage.first_unused:
                click.echo(f"  not used: {', '.join(map(repr, usage.first_unused))}", err=True)
    if imported.gold_found or imported.gold_unresolved:
        click.echo(
            f"gold passages: {imported.gold_found} found, {imported.gold_unresolved} not; "
            f"all of them found for {imported.with_gold} questions"
        )
    for unresolved in imported.first_unresolved:
        passage = unresolved.passage
        _say(f"  not found: {passage.title or passage.id!r} (question {unresolved.question!r})")
    if imported.unresolved:
        click.echo(f"  full list: {imported.unresolved}", err=True)
    if imported.gold_without_corpus:
        click.echo(f"gold passages: {imported.gold_without_corpus} named by title are skipped without --corpus")
    if imported.gold_ambiguous:
        several = "could be any of several paragraphs of one title, and are not resolved"
        click.echo(f"gold passages: {imported.gold_ambiguous} {several}")
    if imported.skipped:
        click.echo(f"skipped: {reasons(imported)}")
    for line in imported.first_skipped:
        _say(f"  skipped: {line}")
    if imported.empty_answers:
        click.echo(f"dropped: {imported.empty_answers} answers that are empty after normalisation")
    click.echo(f"leaks: {len(imported.leaks)} questions occur in another file or twice")
    for leak in imported.leaks[:MAX_EXAMPLES_SHOWN]:
        _say(f"  {leak.id}: also {leak.other} in {leak.file}")
    if len(imported.leaks) > MAX_EXAMPLES_SHOWN:
        click.echo(f"  and {len(imported.leaks) - MAX_EXAMPLES_SHOWN} more; --json lists all", err=True)
