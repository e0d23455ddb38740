"""The OpenAPI description: it says of a request what the server says of it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exsearch.serving.app import retrieval_app
from exsearch.serving.limits import Limits
from exsearch.serving.openapi import openapi
from exsearch.serving.schemas import count_schema, flag_schema, query_schema
from exsearch.wire.registry import REQUESTS_BY_KEYS
from serving_server import ScriptedRetriever, running, tiny_index

LIMITS = Limits(query_characters=40, queries=5, k=120)
KEYS = ["query", "queries", "k", "topk", "top_k", "top_n", "topk_retrieval", "topk_rerank", "return_scores", "urls"]
words = st.sampled_from(
    ["capital", " Tiber\n", "x" * 40, "x" * 41, "", " ", "\x85", "\u2003", "\x00", "a\x1fb", "\t\r"]
)
queries = words | st.text(max_size=45)
numbers = st.integers(-2, 130) | st.sampled_from([1.0, 1.5, 10**20, "0", "1", "99", "100", "120", "121", "", "x"])
values = (
    queries
    | st.lists(queries, max_size=6)
    | numbers
    | numbers
    | st.booleans()
    | st.none()
    | st.lists(st.integers(), max_size=2)
)
bodies = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    _, corpus = tiny_index(tmp_path_factory.mktemp("serving"))
    with running(retrieval_app(ScriptedRetriever(), corpus, LIMITS)) as url:
        yield url


def post(url: str, path: str, body: Any) -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def accepts(description: dict[str, Any], path: str, body: Any) -> bool:
    content = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = {**content["schema"], "components": description["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(body))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["/", *REQUESTS_BY_KEYS]), bodies)
@example("/retrieve", {"queries": ["", "Tiber"], "topk": "120", "return_scores": "TRUE"})
@example("/retrieve", {"queries": [], "topk": None})
@example("/retrieve", {"queries": ["x"], "topk_retrieval": 1000, "topk_rerank": 3})
@example("/retrieve", {"queries": ["x"], "topk_retrieval": 1000, "topk_rerank": 1000})
@example("/retrieve", {"queries": ["x"], "topk_retrieval": 0, "topk_rerank": 3})
@example("/retrieve", {"query": "x", "queries": 5, "k": 3})
@example("/retrieve", {"query": "x", "top_k": 0})
@example("/retrieve", {"query": "x", "topk": 0, "top_k": 1})
@example("/api/search", {"query": "x", "k": 101})
@example("/access", {"urls": ["x"] * 6})
@example("/access", {"urls": 5, "query": "x", "k": 3})
def test_the_server_takes_what_its_description_takes_and_nothing_else(url: str, path: str, body: Any) -> None:
    assert accepts(openapi(LIMITS, needs_key=False), path, body) == (post(url, path, body) == 200)


@given(st.integers(1, 12000), st.integers(-10, 13000))
def test_a_number_as_a_string_has_the_bounds_of_the_number(most: int, number: int) -> None:
    schema = jsonschema.Draft202012Validator(count_schema(most, nullable=False))
    assert schema.is_valid(number) == schema.is_valid(str(number)) == (1 <= number <= most)
    assert not schema.is_valid(f"0{number}")


@given(queries)
def test_a_query_is_described_as_it_is_searched_for(query: str) -> None:
    described = jsonschema.Draft202012Validator(query_schema(LIMITS)).is_valid(query)
    assert described == (LIMITS.unsearchable(query) is None)


def test_truth_values_are_those_that_clients_write() -> None:
    schema = jsonschema.Draft202012Validator(flag_schema())
    assert all(schema.is_valid(value) for value in (True, False, 0, 1, "0", "1", "true", "False", "TRUE"))
    assert not any(schema.is_valid(value) for value in (None, 2, "", "yes", "2", [], {}))


@pytest.mark.parametrize("needs_key", [False, True])
def test_the_description_is_a_valid_one_and_says_where_a_key_is_needed(needs_key: bool) -> None:
    description = openapi(LIMITS, needs_key)
    for schema in description["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert bool(description["security"]) is needs_key
    open_paths = {path for path, methods in description["paths"].items() if methods["get"].get("security") == []}
    assert open_paths == {"/health", "/healthz"}


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="needs the extra `dev`")
    retriever, corpus = tiny_index(tmp_path)
    with running(retrieval_app(retriever, corpus, Limits())) as url:
        options = ["--checks", "all", "--generation-deterministic", "--continue-on-failure", "--no-color"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        with urlopen(f"{url}/metrics") as answer:
            answered = re.findall(
                r'^exsearch_requests_total{.*status="200"} (.*)$', answer.read().decode(), re.MULTILINE
            )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(map(float, answered)) > 300
