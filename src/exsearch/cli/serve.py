"""`exsearch serve`: make an index available to other programs."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from exsearch.corpus.store import Corpus
    from exsearch.retrieval.base import Retriever

COUNT = click.IntRange(min=1)
AMOUNT = click.FloatRange(min=0, min_open=True)

index_argument = click.argument("index", type=click.Path(path_type=Path))
corpus_option = click.option(
    "--corpus", type=click.Path(path_type=Path), help="Corpus folder of the index, if it has moved."
)
force_option = click.option("--force", is_flag=True, help="Start even if memory seems too small.")
host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
api_key_option = click.option(
    "--api-key-file", type=click.Path(path_type=Path), help="File with the key that every request must carry."
)
allowed_host_option = click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Host name that requests may be addressed to, besides this machine's own names. Repeatable.",
)
allowed_origin_option = click.option(
    "--allowed-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web site whose pages may use the server, such as https://app.example.org. Repeatable.",
)


@click.group()
def serve() -> None:
    """Serve an index over HTTP or MCP, or check a server."""


@serve.command()
@index_argument
@corpus_option
@host_option
@port_option
@api_key_option
@allowed_host_option
@allowed_origin_option
@click.option(
    "--max-body", type=AMOUNT, default=4.0, show_default=True, metavar="MIB", help="Maximum size of a request body."
)
@click.option(
    "--max-query", type=COUNT, default=8192, show_default=True, metavar="CHARACTERS", help="Maximum length of a query."
)
@click.option(
    "--max-queries", type=COUNT, default=4096, show_default=True, help="Maximum number of queries per request."
)
@click.option("--max-k", type=COUNT, default=1000, show_default=True, help="Maximum number of passages per query.")
@click.option(
    "--max-requests",
    type=COUNT,
    default=256,
    show_default=True,
    help="Maximum number of requests in flight; others get 503.",
)
@click.option(
    "--timeout", type=AMOUNT, default=60.0, show_default=True, metavar="SECONDS", help="Time limit for one search."
)
@click.option("--replicas", type=COUNT, help="Number of processes that search, run by Ray Serve.")
@click.option("--ray", metavar="ADDRESS", help="Ray cluster for the replicas; by default this machine.")
@force_option
def retrieval(
    index: Path,
    corpus: Path | None,
    host: str,
    port: int,
    api_key_file: Path | None,
    allowed_hosts: tuple[str, ...],
    allowed_origins: tuple[str, ...],
    max_body: float,
    max_query: int,
    max_queries: int,
    max_k: int,
    max_requests: int,
    timeout: float,
    replicas: int | None,
    ray: str | None,
    force: bool,
) -> None:
    """Serve searches in the wire formats of many agents and trainers, on one port.

    Clients: Search-R1, verl, SkyRL, ASearcher, agent-lightning, ColBERT, DSPy, SearchLM, R1-Searcher, ReSearch,
    ReCall and ZeroSearch. `GET /` lists the formats.
    """
    _require_extra()
    from exsearch.core.errors import UsageError
    from exsearch.serving.app import retrieval_app
    from exsearch.serving.limits import Limits
    from exsearch.serving.sites import Sites

    if ray is not None and replicas is None:
        raise UsageError("--ray: set the number of processes that search (--replicas N)")
    key = _key(api_key_file)
    sites = Sites(allowed_hosts or None, allowed_origins)
    limits = Limits(
        body_bytes=int(max_body * (1 << 20)),
        query_characters=max_query,
        queries=max_queries,
        k=max_k,
        requests=max_requests,
        seconds=timeout,
    )
    here = 0 if replicas is None or ray not in (None, "local") else replicas
    retriever, passages = _open(index, corpus, force, 1 + here)
    with ExitStack() as stack:
        if replicas is not None:
            from exsearch.serving.replicas import Replicas

            retriever = Replicas(index, corpus, retriever.fingerprint, replicas, ray or "local", timeout)
            stack.callback(retriever.close)
        _listen(retrieval_app(retriever, passages, limits, key, sites), host, port, key, timeout)


@serve.command()
@index_argument
@corpus_option
@click.option(
    "--transport", type=click.Choice(["stdio", "http"]), default="stdio", show_default=True, help="How clients connect."
)
@host_option
@port_option
@api_key_option
@allowed_host_option
@allowed_origin_option
@force_option
def mcp(
    index: Path,
    corpus: Path | None,
    transport: str,
    host: str,
    port: int,
    api_key_file: Path | None,
    allowed_hosts: tuple[str, ...],
    allowed_origins: tuple[str, ...],
    force: bool,
) -> None:
    """Serve an index as MCP tools: search and get_passage.

    With stdio, an MCP client starts this command itself; with http (streamable), it connects to
    http://HOST:PORT/mcp. On a loopback address the server answers only requests for a loopback name or for a name
    that --allowed-host adds, such as that of a proxy in front of it.
    """
    _require_extra()
    from exsearch.network.loopback import is_loopback
    from exsearch.processes import stopping
    from exsearch.serving.limits import Limits
    from exsearch.serving.mcp_server import mcp_app, mcp_server, serve_stdio
    from exsearch.serving.sites import Sites

    key = _key(api_key_file)
    sites = Sites(allowed_hosts if allowed_hosts or is_loopback(host) else None, allowed_origins)
    limits = Limits(k=100)
    server = mcp_server(*_open(index, corpus, force), limits)
    if transport == "stdio":
        # a thread waits for standard input, so the library could not stop in an orderly way; nothing is lost
        stopping.end_at_signal(0)
        serve_stdio(server)
    else:
        _listen(mcp_app(server, key, sites), host, port, key, limits.seconds)


@serve.command()
@click.argument("url")
@click.option(
    "--dialect",
    default="all",
    show_default=True,
    help="search-r1, search-r1-rerank, asearcher-access, skyrl, colbert, r1-searcher, flashrag, zerosearch or all.",
)
@click.option("--query", default="What is the capital of France?", show_default=True, help="A query that has hits.")
@api_key_option
@click.option("--json", "as_json", is_flag=True, help="Print the checks as a JSON array.")
def check(url: str, dialect: str, query: str, api_key_file: Path | None, as_json: bool) -> None:
    """Check a retrieval server: send what its clients send, and show what it gets wrong.

    URL may be any server's, not only ours. Exit code 1 if a check fails.
    """
    import msgspec

    from exsearch.core.errors import ExSearchError
    from exsearch.serving.conformance import run_checks

    key = _key(api_key_file)
    results = []
    for result in run_checks(url, dialect, query, key):
        results.append(result)
        if not as_json:
            outcome = "ok" if result.fault is None else f"FAILED: {result.fault}"
            click.echo(f"{result.dialect:<16} {result.check:<66} {outcome}")
    if as_json:
        click.echo(msgspec.json.encode(results).decode())
    failed = sum(result.fault is not None for result in results)
    if failed:
        raise ExSearchError(f"{failed} of {len(results)} checks failed")


def _key(file: Path | None) -> str | None:
    from exsearch.network.api_key import read_api_key

    return None if file is None else read_api_key(file)


def _require_extra() -> None:
    from importlib.util import find_spec

    from exsearch.core.errors import UsageError

    missing = [name for name in ("mcp", "prometheus_client", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UsageError(f"serving needs {', '.join(missing)}: python -m pip install 'exsearch[serve]'")


def _open(index: Path, corpus: Path | None, force: bool, processes: int = 1) -> "tuple[Retriever, Corpus]":
    """Print how much memory the index needs in this many processes, then open it in this one and warm it up."""
    from exsearch.corpus.store import Corpus
    from exsearch.retrieval.index.folder import read_index_info
    from exsearch.retrieval.index.open import open_index
    from exsearch.serving.memory import available_memory, gigabytes, memory_need, refuse_if_too_large

    info = read_index_info(index)
    where = corpus or index / info.corpus
    need = memory_need(index, where, processes)
    available = available_memory()
    click.echo(
        f"{index}: {info.kind} index of {info.passages} passages; needs about {gigabytes(need.resident)} of memory "
        f"({gigabytes(available)} is free) and maps {gigabytes(need.mapped)} from disk",
        err=True,
    )
    if not force:
        refuse_if_too_large(index, need, available)
    retriever = open_index(index, corpus)
    retriever.search(["warm up"], 1)  # compiles and loads now what the first query would wait for
    return retriever, Corpus.open(where)


def _listen(app: "Starlette", host: str, port: int, key: str | None, seconds: float) -> None:
    from exsearch.network.loopback import is_loopback
    from exsearch.serving.uvicorn_server import make_server, open_socket

    if not is_loopback(host) and key is None:
        click.echo(f"warning: anyone who reaches {host} can search here; set a key (--api-key-file)", err=True)
    server = make_server(app, seconds)
    with open_socket(host, port) as socket, server.capture_signals():
        address = f"[{host}]" if ":" in host else host
        click.echo(f"listening at http://{address}:{socket.getsockname()[1]} (stop with Ctrl-C)", err=True)
        server.run(sockets=[socket])
