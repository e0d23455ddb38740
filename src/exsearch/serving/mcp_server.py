"""Search as MCP tools, for agents that use the Model Context Protocol."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import msgspec
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from starlette.applications import Starlette

from exsearch import __version__
from exsearch.core.messages import logger
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.batching import Batcher
from exsearch.serving.guard import guard
from exsearch.serving.limits import Limits
from exsearch.serving.mcp_arguments import read_arguments
from exsearch.serving.metrics import Metrics
from exsearch.serving.sites import Sites
from exsearch.wire.errors import RequestError

INSTRUCTIONS = (
    "Search a collection of passages. Ask for one fact at a time, in a few words or a short question; a passage that "
    "looks right but is cut short here can be read whole with get_passage."
)
READS_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

MCP = Server[dict[str, Any]]


class SearchArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of search."""

    query: Annotated[str, msgspec.Meta(description="What to look for.")]
    k: Annotated[int, msgspec.Meta(description="Number of passages.")] = 5


class PassageArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of get_passage."""

    id: Annotated[str, msgspec.Meta(description="The id that search returned.")]


class FoundPassage(msgspec.Struct, frozen=True):
    """One hit."""

    id: str
    title: str
    text: str
    score: float
    rank: int


class Found(msgspec.Struct, frozen=True):
    """Result of search."""

    passages: list[FoundPassage]


class WholePassage(msgspec.Struct, frozen=True):
    """Result of get_passage."""

    id: str
    title: str
    text: str


def mcp_server(retriever: Retriever, corpus: Corpus, limits: Limits) -> MCP:
    """Return the MCP server with its two tools; `limits` limits query, k and the time of a search.

    It offers only tools.
    """
    tools = _Tools(retriever, corpus, limits)
    return Server(
        "exsearch",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
    )


def mcp_app(server: MCP, api_key: str | None = None, sites: Sites | None = None) -> Starlette:
    """Return the server at /mcp over HTTP (streamable). With `api_key`, every request must carry it.

    `sites` decides whom else it answers; by default, only requests from this machine, and no web site's pages.
    """
    # as for every server here, `guard` decides who may connect
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=unguarded)
    return guard(app, api_key, sites or Sites(hosts=[]))


def serve_stdio(server: MCP) -> None:
    """Serve over standard input and output until the input ends."""

    async def serve() -> None:
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())

    anyio.run(serve)


class _Tools:
    def __init__(self, retriever: Retriever, corpus: Corpus, limits: Limits) -> None:
        self._batcher = Batcher(retriever, Metrics())
        self._corpus, self._limits = corpus, limits
        self._calls: dict[str, Callable[[dict[str, Any]], Awaitable[CallToolResult]]] = {
            "search": self._search,
            "get_passage": self._get_passage,
        }

    async def list_tools(self, context: object, params: object) -> ListToolsResult:
        """Return the tools, as the protocol describes them."""
        arguments = _object_schema(SearchArguments)
        arguments["properties"]["k"] |= {"minimum": 1, "maximum": self._limits.k}
        search = Tool(
            name="search",
            description="Return the passages that fit a query best, best first.",
            input_schema=arguments,
            output_schema=_object_schema(Found),
            annotations=READS_ONLY,
        )
        get_passage = Tool(
            name="get_passage",
            description="Return one passage by its id.",
            input_schema=_object_schema(PassageArguments),
            output_schema=_object_schema(WholePassage),
            annotations=READS_ONLY,
        )
        return ListToolsResult(tools=[search, get_passage])

    async def call_tool(self, context: object, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool. Errors become its result, for the model to read. Raises MCPError for an unknown tool."""
        call = self._calls.get(params.name)
        if call is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}; there are {' and '.join(self._calls)}")
        try:
            return await call(params.arguments or {})
        except RequestError as refused:
            return _failure(f"{params.name}: {refused.message}")
        except RetrievalError as error:
            return _failure(f"{params.name}: the index could not answer: {error}")
        except Exception:
            logger.exception("%s: bug in the server", params.name)
            return _failure(f"{params.name}: internal error of the server; see its log")

    async def _search(self, arguments: dict[str, Any]) -> CallToolResult:
        parsed = read_arguments(arguments, SearchArguments)
        self._limits.check(1, parsed.k)
        if fault := self._limits.unsearchable(parsed.query):
            raise RequestError(400, f"the query {fault}")
        try:
            async with asyncio.timeout(self._limits.seconds):
                [hits] = await self._batcher.search([parsed.query], parsed.k)
        except TimeoutError:
            raise RequestError(504, f"the search took more than {self._limits.seconds:g} s") from None
        passages = [FoundPassage(h.passage.id, h.passage.title, h.passage.text, h.score, h.rank) for h in hits]
        text = "\n\n".join(f"[{hit.rank}] {_as_text(hit.passage)}" for hit in hits) or "No passage matches."
        return _result(text, Found(passages))

    async def _get_passage(self, arguments: dict[str, Any]) -> CallToolResult:
        parsed = read_arguments(arguments, PassageArguments)
        passage = await asyncio.to_thread(self._corpus.by_id, parsed.id)
        if passage is None:
            raise RequestError(404, f"there is no passage with the id {parsed.id!r}")
        return _result(_as_text(passage), WholePassage(passage.id, passage.title, passage.text))


def _as_text(passage: Passage) -> str:
    return f"{passage.title} (id {passage.id})\n{passage.text}"


def _result(text: str, structured: Found | WholePassage) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=msgspec.to_builtins(structured)
    )


def _failure(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


def _object_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema with the object at the root, as the protocol requires."""
    definitions = msgspec.json.schema(kind)["$defs"]
    own: dict[str, Any] = definitions.pop(kind.__name__)
    return {**own, "$defs": definitions} if definitions else own
