"""The MCP server with the protocol's own client: what it announces, what it takes, and what it says of mistakes."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.limits import Limits
from exsearch.serving.mcp_arguments import SYNONYMS, read_arguments
from exsearch.serving.mcp_server import PassageArguments, SearchArguments, mcp_app, mcp_server
from exsearch.wire.errors import RequestError
from serving_server import PASSAGES, ScriptedRetriever, running, tiny_index


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def index(folder: Path) -> tuple[Retriever, Corpus]:
    return tiny_index(folder)


async def use_tools(target: Any) -> None:
    """What an agent does with the MCP server."""
    async with Client(target) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "get_passage"}
        assert tools["search"].input_schema["required"] == ["query"]
        assert tools["search"].input_schema["properties"]["k"]["maximum"] == 100
        for tool in tools.values():
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
            assert tool.input_schema["additionalProperties"] is False
            assert tool.annotations is not None and tool.annotations.read_only_hint

        found = await client.call_tool("search", {"query": "capital of France", "k": 2})
        assert not found.is_error
        jsonschema.validate(found.structured_content, tools["search"].output_schema)
        passages = found.structured_content["passages"]
        assert passages[0].pop("score") > passages[1]["score"]
        assert passages[0] == {"id": "11", "title": "France", "text": "The capital of France is Paris.", "rank": 1}
        assert found.content[0].text.startswith("[1] France (id 11)\nThe capital of France is Paris.\n\n[2] ")

        assert (await client.call_tool("search", {"q": "capital of France", "top_k": 2})).content == found.content

        whole = await client.call_tool("get_passage", {"id": "12"})
        jsonschema.validate(whole.structured_content, tools["get_passage"].output_schema)
        assert whole.structured_content == {"id": "12", "title": "Italy", "text": PASSAGES[1].text}
        assert (await client.call_tool("search", {"query": "xylophone"})).structured_content == {"passages": []}
        for tool, arguments, reason in (
            ("search", {"query": " "}, "the query is empty"),
            ("search", {"query": "x", "k": 0}, "from 1 to 100, got 0"),
            ("search", {"query": "x", "k": 10**6}, "from 1 to 100, got 1000000"),
            ("search", {"query": ["x"]}, "'query' must be a string, not a list"),
            ("search", {"query": "x", "passages": 20}, "no argument `passages`; it takes `query` and `k`"),
            ("search", {"k": 3}, "`query` is missing; it takes `query` and `k`"),
            ("search", {"query": "x", "k": 1, "topK": 20}, "`k` and `topK` both mean `k`"),
            ("get_passage", {"id": "11", "k": 1}, "no argument `k`; it takes `id`"),
            ("get_passage", {"id": "nobody"}, "no passage with the id 'nobody'"),
        ):
            refused = await client.call_tool(tool, arguments)
            assert refused.is_error
            assert reason in refused.content[0].text
        assert not (await client.call_tool("search", {"query": "Tiber"})).is_error


def test_mcp_over_stdio(folder: Path, index: tuple[Retriever, Corpus]) -> None:
    arguments = ["-m", "exsearch.cli.main", "serve", "mcp", str(folder / "index")]
    asyncio.run(use_tools(StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))))


def test_mcp_over_stdio_says_nothing_but_protocol_on_stdout(folder: Path, index: tuple[Retriever, Corpus]) -> None:
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", "mcp", str(folder / "index")]
    version = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": version}) + "\n"
    run = subprocess.run(command, input=line, capture_output=True, text=True, timeout=120, check=True)
    assert [json.loads(answer)["id"] for answer in run.stdout.splitlines()] == [1]
    assert "bm25 index of 5 passages" in run.stderr


def test_mcp_over_streamable_http(index: tuple[Retriever, Corpus]) -> None:
    with running(mcp_app(mcp_server(*index, Limits(k=100)))) as url:
        asyncio.run(use_tools(f"{url}/mcp"))


def test_mcp_over_http_wants_its_key(index: tuple[Retriever, Corpus]) -> None:
    async def connect(url: str) -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(f"{url}/mcp"))
            await client.list_tools()

    app = mcp_app(mcp_server(*index, Limits(k=100)), "key")
    with running(app) as url, pytest.raises((MCPError, ExceptionGroup)):
        asyncio.run(connect(url))


def test_mcp_gives_up_a_search_that_takes_too_long(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()
    slow = ScriptedRetriever(lambda queries: (go_on.wait(20), None)[1])

    async def ask() -> None:
        async with Client(mcp_server(slow, index[1], Limits(k=100, seconds=0.2))) as client:
            for _ in range(2):
                answer = await client.call_tool("search", {"query": "x"})
                assert answer.is_error
                assert "more than 0.2 s" in answer.content[0].text
            go_on.set()

    asyncio.run(ask())


def test_mcp_reports_a_retriever_that_cannot_answer(index: tuple[Retriever, Corpus]) -> None:
    def fail(queries: list[str]) -> None:
        raise RetrievalError("the remote index is away")

    async def ask() -> None:
        async with Client(mcp_server(ScriptedRetriever(fail), index[1], Limits(k=100))) as client:
            answer = await client.call_tool("search", {"query": "x"})
            assert answer.is_error
            assert "the remote index is away" in answer.content[0].text

    asyncio.run(ask())


def test_mcp_announces_tools_and_nothing_that_it_has_not(index: tuple[Retriever, Corpus]) -> None:
    async def connect(mode: Any) -> dict[str, Any]:
        async with Client(mcp_server(*index, Limits(k=100)), mode=mode) as client:
            for call in (client.list_prompts, client.list_resources, client.list_resource_templates):
                with pytest.raises(MCPError):
                    await call()
            return client.server_capabilities.model_dump(exclude_none=True)

    for mode in ("legacy", "auto"):
        assert set(asyncio.run(connect(mode))) == {"tools"}


def test_an_unknown_tool_is_an_error_of_the_protocol_that_names_those_there_are(
    index: tuple[Retriever, Corpus],
) -> None:
    async def ask() -> None:
        async with Client(mcp_server(*index, Limits(k=100))) as client:
            with pytest.raises(MCPError, match="no tool 'web_search'; there are search and get_passage"):
                await client.call_tool("web_search", {"query": "x"})

    asyncio.run(ask())


def test_a_bug_of_the_server_is_told_as_one_and_logged(
    index: tuple[Retriever, Corpus], caplog: pytest.LogCaptureFixture
) -> None:
    def crash(queries: list[str]) -> None:
        raise ZeroDivisionError("secret")

    async def ask() -> None:
        async with Client(mcp_server(ScriptedRetriever(crash), index[1], Limits(k=100))) as client:
            answer = await client.call_tool("search", {"query": "x"})
            assert answer.is_error
            assert answer.content[0].text == "search: internal error of the server; see its log"

    asyncio.run(ask())
    assert "ZeroDivisionError: secret" in caplog.text


@pytest.mark.parametrize("name", ["query", "k", "id"])
def test_an_argument_is_taken_under_each_of_its_usual_names(name: str) -> None:
    kind, others = (PassageArguments, {}) if name == "id" else (SearchArguments, {"query": "x"} if name == "k" else {})
    value = 7 if name == "k" else "seven"
    for word in SYNONYMS[name]:
        camel = word.split("_")[0] + "".join(part.title() for part in word.split("_")[1:])
        for written in (word, word.upper(), camel, word.replace("_", "-")):
            assert getattr(read_arguments({**others, written: value}, kind), name) == value
            with pytest.raises(RequestError, match=f"both mean `{name}`"):
                read_arguments({**others, name: value, written: value}, kind)


def test_an_argument_that_is_null_is_missing() -> None:
    assert read_arguments({"query": "x", "k": None, "top_k": 3}, SearchArguments).k == 3
    assert read_arguments({"query": "x", "k": None}, SearchArguments) == read_arguments({"query": "x"}, SearchArguments)
    with pytest.raises(RequestError, match="`query` is missing"):
        read_arguments({"query": None}, SearchArguments)
    with pytest.raises(RequestError, match="no argument `other`"):
        read_arguments({"query": "x", "other": None}, SearchArguments)


def test_no_word_means_two_arguments() -> None:
    words = [word for name, others in SYNONYMS.items() for word in (name, *others)]
    assert len(words) == len(set(words))


def test_numbers_may_be_strings_as_models_write_them() -> None:
    assert read_arguments({"query": "x", "k": "3"}, SearchArguments).k == 3
    with pytest.raises(RequestError):
        read_arguments({"query": "x", "k": "three"}, SearchArguments)
