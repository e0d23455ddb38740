"""`exsearch index`: build an index of a corpus, or update one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exsearch.cli.options import json_option

if TYPE_CHECKING:
    from exsearch.corpus.store import Corpus


@click.command()
@click.argument("corpus", type=click.Path(path_type=Path))
@click.option("--retriever", required=True, help="Kind of index: bm25, late, dense, plaid or hybrid.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Index folder to write or to extend.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the kind, such as k1=0.9 of bm25 or encoder=FOLDER_OR_HUB_ID of late, dense and plaid.",
)
@click.option("--disk", metavar="SIZE", help="For late: compress the index to at most this size on disk, such as 8GB.")
@click.option(
    "--ram",
    metavar="SIZE",
    help="For late: compress the index until all of it fits into this much memory, such as 8GB.",
)
@click.option("--ray", metavar="ADDRESS", help="Build on a Ray cluster: auto, local, or HOST:PORT.")
@json_option
def index(
    corpus: Path,
    retriever: str,
    out: Path,
    overrides: tuple[str, ...],
    disk: str | None,
    ram: str | None,
    ray: str | None,
    as_json: bool,
) -> None:
    """Build an index of the corpus folder CORPUS.

    Run the same command again to resume an interrupted build, or to add passages that the corpus has gained since.
    """
    import msgspec

    from exsearch.config import apply_override
    from exsearch.corpus.store import Corpus
    from exsearch.retrieval.index.build import build_index
    from exsearch.retrieval.index.folder import read_index_info

    opened = Corpus.open(corpus)
    parameters: dict[str, Any] = {}
    for override in overrides:
        apply_override(parameters, override)
    if disk or ram:
        parameters |= _compression(opened, retriever, parameters, disk, ram)
    info = read_index_info(build_index(opened, retriever, out, ray=ray, **parameters))
    if as_json:
        click.echo(msgspec.json.encode({"index": str(out), **msgspec.to_builtins(info)}).decode())
    else:
        click.echo(f"{out}: {info.kind} index of {info.passages} passages, fingerprint {info.fingerprint}")


def _compression(
    corpus: "Corpus", retriever: str, parameters: dict[str, Any], disk: str | None, ram: str | None
) -> dict[str, int]:
    """Return the compression that meets both budgets; print it with its cost in recall."""
    from exsearch.core.errors import UsageError
    from exsearch.retrieval.index.registry import check_parameters
    from exsearch.retrieval.late.budget import as_size, compress_to, parse_size

    if retriever != "late":
        raise UsageError(f"--disk and --ram choose the compression of a late index, not of {retriever}")
    if "token_bytes" in parameters:
        raise UsageError("--disk and --ram choose token_bytes; remove it from --set")
    try:
        budget = min(parse_size(size) for size in (disk, ram) if size)
    except ValueError as error:
        raise UsageError(f"--disk and --ram: {error}; write it like 8GB") from None
    compression, expected = compress_to(corpus, budget, check_parameters(retriever, parameters))
    click.echo(
        f"{compression.token_bytes} bytes per token: about {as_size(expected)}, "
        f"{compression.recall_lost:.1f} points of recall@5 below uncompressed vectors (measured with the embedded "
        "encoder)",
        err=True,
    )
    return {"token_bytes": compression.token_bytes}
