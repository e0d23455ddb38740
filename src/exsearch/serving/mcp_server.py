"""The search as MCP tools, for agents that speak the Model Context Protocol."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from exsearch import __version__
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.batching import Batcher
from exsearch.serving.limits import Limits
from exsearch.serving.metrics import Metrics

INSTRUCTIONS = (
    "Search a collection of passages. Ask for one fact at a time, in a few words or a short question; a passage that "
    "looks right but is cut short here can be read whole with get_passage."
)


@dataclass
class FoundPassage:
    """One hit."""

    id: str
    title: str
    text: str
    score: float
    rank: int


@dataclass
class Found:
    """What search returns."""

    passages: list[FoundPassage]


@dataclass
class WholePassage:
    """What get_passage returns."""

    id: str
    title: str
    text: str


def mcp_server(retriever: Retriever, corpus: Corpus, limits: Limits) -> MCPServer[dict[str, object]]:
    """Return the MCP server with its two tools; `limits` bounds query, k and the time of a search."""
    server: MCPServer[dict[str, object]] = MCPServer(
        "exsearch", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    batcher = Batcher(retriever, Metrics())
    reads_only = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

    @server.tool(annotations=reads_only)
    async def search(
        query: Annotated[str, Field(description="What to look for.")],
        k: Annotated[int, Field(description="Number of passages.", ge=1, le=limits.k)] = 5,
    ) -> Annotated[CallToolResult, Found]:
        """Return the passages that fit a query best, best first."""
        if fault := limits.unsearchable(query):
            raise ToolError(f"the query {fault}")
        try:
            async with asyncio.timeout(limits.seconds):
                [hits] = await batcher.search([query], k)
        except TimeoutError:
            raise ToolError(f"the search took more than {limits.seconds:g} s") from None
        except RetrievalError as error:
            raise ToolError(f"the index could not answer: {error}") from error
        found = [FoundPassage(h.passage.id, h.passage.title, h.passage.text, h.score, h.rank) for h in hits]
        text = "\n\n".join(f"[{hit.rank}] {_as_text(hit.passage)}" for hit in hits) or "No passage matches."
        return _result(text, Found(found))

    @server.tool(annotations=reads_only)
    async def get_passage(
        id: Annotated[str, Field(description="The id that search returned.")],
    ) -> Annotated[CallToolResult, WholePassage]:
        """Return one passage by its id."""
        passage = await asyncio.to_thread(corpus.by_id, id)
        if passage is None:
            raise ToolError(f"there is no passage with the id {id!r}")
        return _result(_as_text(passage), WholePassage(passage.id, passage.title, passage.text))

    return server


def _as_text(passage: Passage) -> str:
    return f"{passage.title} (id {passage.id})\n{passage.text}"


def _result(text: str, structured: Found | WholePassage) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=asdict(structured))
