"""Clients of other projects, as those write them, against our server."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Retriever
from exsearch.serving.app import retrieval_app
from exsearch.serving.limits import Limits
from serving_server import running, tiny_index


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
