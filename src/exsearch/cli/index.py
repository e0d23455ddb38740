"""`exsearch index`: build an index of a corpus."""

from pathlib import Path

import click


@click.command()
@click.argument("corpus", type=click.Path(path_type=Path))
@click.option("--retriever", required=True, help="Kind of index: bm25 or late.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Index folder to write.")
@click.option("--encoder", help="For late: a model folder or hub id. Default: the embedded MiniLM.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def index(corpus: Path, retriever: str, out: Path, encoder: str | None, as_json: bool) -> None:
    """Build an index of the corpus folder CORPUS."""
    import msgspec

    from exsearch.corpus.store import Corpus
    from exsearch.retrieval.index import build_index, read_index_info

    parameters = {} if encoder is None else {"encoder": encoder}
    info = read_index_info(build_index(Corpus.open(corpus), retriever, out, **parameters))
    if as_json:
        click.echo(msgspec.json.encode({"index": str(out), **msgspec.to_builtins(info)}).decode())
    else:
        click.echo(f"{out}: {info.kind} index of {info.passages} passages, fingerprint {info.fingerprint}")
