"""`exsearch corpus`: bring a corpus in, or make a synthetic one."""

from pathlib import Path

import click


@click.group()
def corpus() -> None:
    """Import passages, or make a synthetic world of them."""


@corpus.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Corpus folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(file: Path, out: Path, as_json: bool) -> None:
    """Write the passages of FILE as a corpus folder.

    FILE is JSON lines ({id, title, text} or {id, contents}) or DPR's tab-separated format, plain or gzipped.
    """
    from exsearch.corpus.importing import import_corpus

    _report(out, len(written := import_corpus(file, out)), written.fingerprint, as_json)


@corpus.command()
@click.option("--passages", type=click.IntRange(min=1), required=True, help="Size of the corpus.")
@click.option("--seed", type=int, required=True, help="Equal seeds and sizes give equal worlds.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--train", type=click.IntRange(min=0), default=200, show_default=True, help="Questions to train on.")
@click.option("--dev", type=click.IntRange(min=0), default=100, show_default=True, help="Questions to choose by.")
@click.option("--test", type=click.IntRange(min=0), default=100, show_default=True, help="Questions to report on.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def world(passages: int, seed: int, out: Path, train: int, dev: int, test: int, as_json: bool) -> None:
    """Make a synthetic multi-hop world: OUT/corpus and OUT/train.jsonl, dev.jsonl, test.jsonl."""
    from exsearch.corpus.store import write_corpus
    from exsearch.data.world import World, write_questions

    made = World(seed=seed, passages=passages)
    written = write_corpus(out / "corpus", made.passages(), total=passages)
    write_questions(made, out, {"train": train, "dev": dev, "test": test})
    _report(out / "corpus", len(written), written.fingerprint, as_json)


def _report(folder: Path, passages: int, fingerprint: str, as_json: bool) -> None:
    if as_json:
        import msgspec

        result = {"corpus": str(folder), "passages": passages, "fingerprint": fingerprint}
        click.echo(msgspec.json.encode(result).decode())
    else:
        click.echo(f"{folder}: {passages} passages, fingerprint {fingerprint}")
