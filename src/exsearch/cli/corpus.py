"""`exsearch corpus`: import a corpus, change it, describe it, or generate a synthetic one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from exsearch.cli.options import json_option
from exsearch.core.messages import printable

if TYPE_CHECKING:
    from exsearch.core.progress import Progress
    from exsearch.corpus.importing import ImportedPassages

T = TypeVar("T")

_folder = click.argument("folder", metavar="CORPUS", type=click.Path(path_type=Path))
_strict = click.option("--strict", is_flag=True, help="Refuse the first malformed row or duplicate id.")


@click.group()
def corpus() -> None:
    """Import passages, or generate a synthetic benchmark."""


@corpus.command("import")
@click.argument("file")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Corpus folder to write.")
@click.option(
    "--passage-words",
    type=click.IntRange(10, 10_000),
    default=100,
    show_default=True,
    help="Maximum number of words of a passage, for documents.",
)
@_strict
@json_option
def import_(file: str, out: Path, passage_words: int, strict: bool, as_json: bool) -> None:
    """Import the passages of FILE, or a folder of documents, into a corpus folder.

    FILE is JSON lines ({id, title, text} or {id, contents}) or DPR's tab-separated format, plain or gzipped; Parquet
    with the same columns; a folder that `datasets` has saved; or hf:OWNER/NAME[:CONFIG][@SPLIT] on the Hugging Face
    hub. Malformed rows and duplicate ids are skipped and listed in OUT/rejected.jsonl. Run the same command again to
    resume an interrupted import.

    FILE may also be a folder of documents, or a document: HTML, Markdown, text, PDF, DOCX, ODT, EPUB, manual pages,
    source code, e-mail. They are cut into passages at the ends of sentences. The same command again reads those that
    have changed, and deletes the passages of those that are gone.
    """
    from exsearch.corpus.documents import import_documents, is_documents
    from exsearch.corpus.importing import import_corpus

    if is_documents(file):
        imported = import_documents(Path(file), out, passage_words, strict, _say)
    else:
        imported = import_corpus(file, out, strict, _say)
    _report(out, imported, as_json)


@corpus.command()
@_folder
@click.argument("file")
@_strict
@json_option
def add(folder: Path, file: str, strict: bool, as_json: bool) -> None:
    """Append the passages of FILE (formats as for `import`) to the corpus folder CORPUS."""
    from exsearch.corpus.importing import extend_corpus

    _report(folder, extend_corpus(folder, file, strict, _say), as_json)


@corpus.command()
@_folder
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--from", "file", type=click.Path(path_type=Path), help="File with further ids, one per line.")
@json_option
def delete(folder: Path, ids: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Delete the passages with these ids from the corpus folder CORPUS, all or none."""
    from exsearch.corpus.store import delete_passages

    if file is not None:
        ids += tuple(_read_ids(file))
    if not ids:
        raise click.UsageError("name the ids to delete, or a file with them (--from FILE)")
    _describe(delete_passages(folder, ids).folder, as_json)


@corpus.command()
@_folder
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Describe the corpus folder CORPUS."""
    _describe(folder, as_json)


@corpus.command()
@click.option("--passages", type=click.IntRange(min=1), required=True, help="Size of the corpus.")
@click.option("--seed", type=int, required=True, help="Equal seeds and sizes give equal worlds.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--train", type=click.IntRange(min=0), default=200, show_default=True, help="Number of training questions."
)
@click.option(
    "--dev",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Number of development questions, for choosing the best model.",
)
@click.option("--test", type=click.IntRange(min=0), default=100, show_default=True, help="Number of test questions.")
@click.option(
    "--hops", type=click.IntRange(1, 4), multiple=True, help="Only questions with this number of hops. Repeatable."
)
@click.option("--relations", multiple=True, help="Only questions about this relation. Repeatable.")
@json_option
def world(
    passages: int,
    seed: int,
    out: Path,
    train: int,
    dev: int,
    test: int,
    hops: tuple[int, ...],
    relations: tuple[str, ...],
    as_json: bool,
) -> None:
    """Generate a synthetic multi-hop benchmark: OUT/corpus and OUT/train.jsonl, dev.jsonl, test.jsonl."""
    from exsearch.core.jsonl import write_jsonl
    from exsearch.core.locks import sole_writer
    from exsearch.core.progress import progress
    from exsearch.corpus.store import write_corpus
    from exsearch.world import SPLITS, World

    generated = World(seed=seed, passages=passages)
    counts = {"train": train, "dev": dev, "test": test}
    # generated first, so that an unknown relation is refused before anything is written
    questions = {split: generated.questions(split, counts[split], hops or None, relations or None) for split in SPLITS}
    with sole_writer(out):
        store = write_corpus(out / "corpus", generated.passages(), total=passages)
        for split, of_split in questions.items():
            with progress(f"{split} questions", counts[split]) as bar:
                count = write_jsonl(out / f"{split}.jsonl", _counted(of_split, bar))
            if count < counts[split]:
                click.echo(f"{split}: this world has only {count} such questions", err=True)
    _describe(store.folder, as_json)


def _counted(items: Iterable[T], bar: "Progress") -> Iterator[T]:
    for item in items:
        bar.advance()
        yield item


def _say(line: str) -> None:
    click.echo(printable(line), err=True)


def _read_ids(file: Path) -> list[str]:
    from exsearch.core.atomic import read_text

    return [line for line in read_text(file).split("\n") if line.strip()]


def _report(folder: Path, imported: "ImportedPassages", as_json: bool) -> None:
    """Print what an import added and skipped, and describe the corpus."""
    for line in imported.first:
        _say(f"skipped: {line}")
    skipped = imported.malformed + imported.duplicates
    if skipped > len(imported.first):
        _say(f"... and {skipped - len(imported.first)} more")
    if skipped:
        counts = f"{imported.malformed} malformed and {imported.duplicates} duplicate rows"
        _say(f"{counts} were skipped, listed in {imported.rejected}")
    if imported.long:
        from exsearch.corpus.importing import READ_WORDS

        _say(
            f"{imported.long} of {imported.passages} passages have more than {READ_WORDS} words: an agent reads the "
            "first 160 tokens of each, or agent.passage_tokens; encoders cut, too"
        )
    added: dict[str, object] = {
        "added": imported.passages,
        "long": imported.long,
        "malformed": imported.malformed,
        "duplicates": imported.duplicates,
        "rejected": imported.rejected and str(imported.rejected),
    }
    _describe(folder, as_json, added)


def _describe(folder: Path, as_json: bool, more: dict[str, object] | None = None) -> None:
    from exsearch.corpus.store import Corpus

    opened = Corpus.open(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    deleted = len(opened.deleted)
    if as_json:
        import json

        result = {
            "corpus": str(folder),
            "passages": len(opened) - deleted,
            "deleted": deleted,
            "fingerprint": opened.fingerprint,
            "bytes": size,
            "segments": len(opened.segments),
        }
        click.echo(json.dumps({**result, **(more or {})}))
    else:
        click.echo(
            f"{folder}: {len(opened) - deleted} passages ({deleted} deleted), {size / 1e6:.1f} MB, "
            f"{len(opened.segments)} segment{'s' * (len(opened.segments) > 1)}, fingerprint {opened.fingerprint}"
        )
