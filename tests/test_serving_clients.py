"""Clients of other projects, as those write them, against our server."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.api_key import ApiKeyRequired
from exsearch.serving.app import retrieval_app
from exsearch.serving.limits import Limits
from exsearch.serving.mcp_server import mcp_server
from serving_server import PASSAGES, ScriptedRetriever, running, tiny_index


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def index(folder: Path) -> tuple[Retriever, Corpus]:
    return tiny_index(folder)


@pytest.fixture(scope="module")
def url(index: tuple[Retriever, Corpus]) -> Iterator[str]:
    with running(retrieval_app(*index, Limits())) as url:
        yield url


def test_search_r1_batch_search(url: str) -> None:
    """Posts all rollouts' queries and makes one prompt text of each query's documents."""

    def batch_search(queries: list[str]) -> list[str]:
        asked = {"queries": queries, "topk": 2, "return_scores": True}
        results = requests.post(f"{url}/retrieve", json=asked).json()["result"]
        prompts = []
        for result in results:
            prompt = ""
            for number, item in enumerate(result):
                lines = item["document"]["contents"].split("\n")
                prompt += f"Doc {number + 1}(Title: {lines[0]}) " + "\n".join(lines[1:]) + "\n"
            prompts.append(prompt)
        return prompts

    france, italy, nothing = batch_search(["capital of France", "Tiber", ""])
    assert france.startswith('Doc 1(Title: "France") The capital of France is Paris.\nDoc 2(Title: ')
    assert italy == 'Doc 1(Title: "Italy") The capital of Italy is Rome.\nIt lies on the Tiber.\n'
    assert nothing == ""
    assert batch_search([]) == []


def test_asearcher_search_and_access(url: str) -> None:
    """Asks without scores, and gets the page of a URL that a document named."""
    asked = {"queries": ["capital of France"], "topk": 1, "return_scores": False}
    [result] = requests.post(f"{url}/retrieve", json=asked).json()["result"]
    assert [document["contents"] for document in result] == ['"France"\nThe capital of France is Paris.']
    urls = [document["url"] for document in result]
    [page] = requests.post(f"{url}/access", json={"urls": urls}).json()["result"]
    assert page["contents"] == result[0]["contents"]


def knowledge(content: Any) -> list[str]:
    """What SearchLM's document_retrieval makes of an answer: it cuts the text at the first bar."""
    found = []
    for item in content["topk"]:
        bar = item["text"].index("|")
        title, text = item["text"][:bar].replace('"', "").strip(), item["text"][bar + 1 :].replace('"', "").strip()
        found.append(f"Title: {title}. Content: {text}")
    return found


QUERIES = {
    "capital of France": "Title: France. Content: The capital of France is Paris.",
    "Zürich, R&D in the city + Ω": "Title: Zürich. Content: A city that is no capital, Ω.",
    "George Orwell #1 | 100% novel?": "Title: 1984 / a novel. Content: A capital book | by George Orwell.",
}


@pytest.mark.parametrize(("query", "first"), QUERIES.items())
def test_searchlm_with_a_query_that_is_not_encoded_at_all(url: str, query: str, first: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        head = f"GET /api/search?query={query}&k=3 HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    content = json.loads(body)
    assert content["query"] == query
    assert knowledge(content)[0] == first


@pytest.mark.parametrize(("query", "first"), list(QUERIES.items())[:2])
def test_searchlm_through_requests_which_encodes_only_what_it_must(url: str, query: str, first: str) -> None:
    content = requests.get(f"{url}/api/search?query={query}&k=3").json()
    assert content["query"] == query
    assert knowledge(content)[0] == first


def test_r1_searcher_strips_a_leading_number_and_finds_none(url: str) -> None:
    import re

    answers = requests.post(f"{url}/queries", json={"queries": ["Orwell", "Tiber"], "k": 3}).json()["answers"]
    shown = [[re.sub(r"^\d+\s+", "", text) for text in found] for found in answers]
    assert shown == [['"1984 | a novel"\nA capital book | by George Orwell.'], [answers[1][0]]]


def test_recall_and_zerosearch(url: str) -> None:
    asked = {"query": ["Orwell", "Tiber"], "top_n": 5}
    found = requests.post(f"{url}/batch_search", json=asked).json()
    assert [[document["id"] for document in documents] for documents in found] == [["13"], ["12"]]
    answer = requests.post(f"{url}/retrieve", json={"query": "Tiber", "top_k": 5}).json()
    assert [f"Doc {number}: {item['text']}" for number, item in enumerate(answer, 1)] == [
        'Doc 1: "Italy"\nThe capital of Italy is Rome.\nIt lies on the Tiber.'
    ]


@pytest.mark.needs("dspy")
@pytest.mark.parametrize("path", ["/api/search", "", "/wiki17_abstracts"])
@pytest.mark.parametrize("post", [False, True])
def test_dspy_colbertv2_client(url: str, index: tuple[Retriever, Corpus], path: str, post: bool) -> None:
    import dspy

    # its cache would answer for a server that is gone
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    client = dspy.ColBERTv2(url=url + path, post_requests=post)
    query = "R&D in Zürich + Italy's capital #1?"
    [hits] = index[0].search([query], 3)
    found = client(query, k=3)
    assert len(hits) == 3
    assert [item.long_text for item in found] == [f"{hit.passage.title} | {hit.passage.text}" for hit in hits]
    assert [(item["rank"], item["score"]) for item in found] == [(hit.rank, hit.score) for hit in hits]
    assert client("capital of France", k=1, simplify=True) == ["France | The capital of France is Paris."]


async def use_tools(target: Any) -> None:
    """What an agent does with the MCP server."""
    async with Client(target) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "get_passage"}
        assert tools["search"].input_schema["required"] == ["query"]
        assert tools["search"].output_schema is not None

        found = await client.call_tool("search", {"query": "capital of France", "k": 2})
        assert not found.is_error
        passages = found.structured_content["passages"]
        assert passages[0].pop("score") > passages[1]["score"]
        assert passages[0] == {"id": "11", "title": "France", "text": "The capital of France is Paris.", "rank": 1}
        assert found.content[0].text.startswith("[1] France (id 11)\nThe capital of France is Paris.\n\n[2] ")

        whole = await client.call_tool("get_passage", {"id": "12"})
        assert whole.structured_content == {"id": "12", "title": "Italy", "text": PASSAGES[1].text}
        assert (await client.call_tool("search", {"query": "xylophone"})).structured_content == {"passages": []}
        for tool, arguments, reason in (
            ("search", {"query": " "}, "the query is empty"),
            ("search", {"query": "x", "k": 0}, "greater than or equal to 1"),
            ("search", {"query": "x", "k": 10**6}, "less than or equal to"),
            ("search", {"query": ["x"]}, "valid string"),
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
    with running(mcp_server(*index, Limits(k=100)).streamable_http_app()) as url:
        asyncio.run(use_tools(f"{url}/mcp"))


def test_mcp_over_http_wants_its_key(index: tuple[Retriever, Corpus]) -> None:
    async def connect(url: str) -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(f"{url}/mcp"))
            await client.list_tools()

    app = ApiKeyRequired(mcp_server(*index, Limits(k=100)).streamable_http_app(), "key")
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
