"""Speaking HTTP: one rule for proxies, whoever speaks, and messages that name the proxy."""

import ast
import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.core.retry import RetryPolicy
from exsearch.engine.base import EngineError
from exsearch.engine.openai.endpoint import Endpoint
from exsearch.network.http_client import check_hub, describe, proxy_of
from exsearch.network.loopback import is_loopback
from exsearch.retrieval.base import RetrievalError
from exsearch.retrieval.remote import Remote
from proxy_server import proxying
from scripted_server import as_json, search_r1, serving

VARIABLES = [f"{scheme}_PROXY" for scheme in ("HTTP", "HTTPS", "ALL", "NO")]
ELSEWHERE = "http://search.example.org"
LOOPBACKS = [
    *("127.0.0.1", "127.1.2.3", "localhost", "LocalHost", "index.localhost", "[::1]", "[::ffff:127.0.0.1]"),
    *("localhost.", "127.1", "0x7f.0.0.1", "2130706433"),
]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *(variable.lower() for variable in VARIABLES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of a proxy that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def chosen(url: str) -> str | None:
    proxy = proxy_of(httpx2.URL(url))
    return None if proxy is None else f"{proxy.variable} {proxy.url}"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"HTTP_PROXY": "http://p:1"}, ELSEWHERE, "HTTP_PROXY http://p:1"),
        ({"HTTP_PROXY": "p:1"}, ELSEWHERE, "HTTP_PROXY http://p:1"),
        ({"http_proxy": "http://p:1", "HTTP_PROXY": "http://q:2"}, ELSEWHERE, "http_proxy http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://search.example.org", None),
        ({"HTTPS_PROXY": "https://p:1"}, "https://search.example.org", "HTTPS_PROXY https://p:1"),
        ({"ALL_PROXY": "http://p:1"}, ELSEWHERE, "ALL_PROXY http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTP_PROXY": "http://q:2"}, ELSEWHERE, "HTTP_PROXY http://q:2"),
        ({"HTTP_PROXY": ""}, ELSEWHERE, None),
        ({}, ELSEWHERE, None),
    ],
)
def test_the_environment_names_the_proxy(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert chosen(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "inside", "outside"),
    [
        ("*", ["http://a.org", "https://10.0.0.1"], []),
        ("example.org", ["http://example.org", "http://a.b.Example.org:8000"], ["http://notexample.org"]),
        (".example.org", ["http://example.org", "http://a.example.org"], ["http://example.com"]),
        ("*.example.org", ["http://a.example.org"], ["http://example.com"]),
        ("a.org, example.org:8000 ,b.org", ["http://example.org:8000", "http://b.org"], ["http://example.org:8001"]),
        ("example.org:80", ["http://example.org"], ["https://example.org"]),
        ("10.0.0.0/8", ["http://10.1.2.3:8000"], ["http://11.0.0.1", "http://ten.org"]),
        ("10.1.2.3", ["http://10.1.2.3"], ["http://10.1.2.30", "http://110.1.2.3"]),
        ("2001:db8::/32,[fe80::1]:8000", ["http://[2001:db8::5]", "http://[fe80::1]:8000"], ["http://[fe80::1]:1"]),
        ("", [], ["http://a.org"]),
        (" , ,", [], ["http://a.org"]),
    ],
)
def test_no_proxy_names_those_that_are_spoken_to_directly(
    no_proxy: str, inside: list[str], outside: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert [chosen(url) for url in inside] == [None] * len(inside)
    assert [chosen(url) for url in outside] == ["ALL_PROXY http://p:1"] * len(outside)


@pytest.mark.parametrize("host", [*LOOPBACKS, "0.0.0.0", "[::]"])
def test_this_machine_is_never_behind_a_proxy_usable_or_not(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("http://p:1", "socks5://p:1", "nonsense://p", "http://p:port"):
        monkeypatch.setenv("ALL_PROXY", proxy)
        assert chosen(f"http://{host}:8000") is None


@given(st.ip_addresses())
def test_an_address_is_this_machine_if_it_says_so(address: object) -> None:
    assert is_loopback(str(address)) is (str(address) == "::1" or str(address).startswith("127."))


@pytest.mark.parametrize("host", ["localhost.example.org", "127.0.0.1.example.org", "128.0.0.1", "0.0.0.0", "", "127"])
def test_no_other_name_is_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("proxy", "complaint"),
    [
        ("socks5://me:s3cret@p:1080", "SOCKS needs a package that is not installed: .*socksio"),
        ("socks5h://p:1080", "SOCKS needs a package"),
        ("nonsense://p:1", "not the URL of a proxy"),
        ("http://p:port", "not the URL of a proxy"),
        ("http://", "not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_usage_error_that_names_its_variable_for_whoever_asks(
    proxy: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed
    monkeypatch.setenv("all_proxy", proxy)
    for ask in (
        lambda: Remote(f"{ELSEWHERE}/retrieve"),
        lambda: Endpoint(f"{ELSEWHERE}/v1", None, 60.0),
        lambda: check_hub("some/model"),
    ):
        with pytest.raises(UsageError, match=rf"^all_proxy.*{complaint}") as caught:
            ask()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [["search", f"{ELSEWHERE}/retrieve", "x"], ["serve", "check", ELSEWHERE]], ids=" ".join
)
def test_on_the_command_line_that_is_one_line_and_exit_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://p:1")
    run = subprocess.run([sys.executable, "-m", "exsearch.cli.main", *arguments], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "error: ALL_PROXY=nonsense://p:1: not the URL of a proxy; write it like http://HOST:PORT\n"


@pytest.mark.parametrize("kind", ["late", "dense", "hybrid"])
def test_an_encoder_of_the_hub_behind_such_a_proxy_is_refused_before_it_is_looked_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers", reason="dense and re-ranking need the extra `retrieval`")
    from exsearch.corpus.passage import Passage
    from exsearch.corpus.store import write_corpus
    from exsearch.retrieval.index.build import build_index

    corpus = write_corpus(tmp_path / "corpus", [Passage("1", "Shark", "lives in the sea")])
    name = "reranker" if kind == "hybrid" else "encoder"
    monkeypatch.setenv("ALL_PROXY", "nonsense://p:1")
    with pytest.raises(UsageError, match="ALL_PROXY=nonsense"):
        build_index(corpus, kind, tmp_path / "index", **{name: "some/encoder"})
    assert not (tmp_path / "index").exists()


def test_a_folder_is_not_looked_for_at_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://p:1")
    check_hub(str(tmp_path))


def test_a_server_here_is_asked_directly_and_one_elsewhere_through_the_proxy(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(search_r1) as server:
        monkeypatch.setenv("HTTP_PROXY", refusing)
        [hits] = Remote(f"http://{server.address}", retries=0).search(["a"], 1)
        assert hits[0].passage.id == "a"
        with proxying(server.address) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:s3cret@"))
            [hits] = Remote(ELSEWHERE, retries=0).search(["b"], 1)
            assert hits[0].passage.id == "b"
            assert proxy.asked == [f"GET {ELSEWHERE}/health", f"POST {ELSEWHERE}/retrieve"]
            assert set(proxy.authorised) == {"Basic bWU6czNjcmV0"}


def test_an_openai_endpoint_goes_the_same_way(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"choices": [{"text": "yes"}]}
    with serving(lambda asked: as_json(answer)) as server, proxying(server.address) as proxy:
        monkeypatch.setenv("HTTP_PROXY", refusing)
        here = Endpoint(f"http://{server.address}/v1/", None, 60.0)
        assert asyncio.run(here.post("completions", {})) == answer
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        elsewhere = Endpoint("http://me:s3cret@models.example.org/v1", None, 60.0)
        assert asyncio.run(elsewhere.post("completions", {})) == answer
        assert proxy.asked == ["POST http://models.example.org/v1/completions"]
        assert elsewhere.url == f"http://models.example.org/v1 (through the proxy {proxy.url} of HTTP_PROXY)"


def test_the_check_of_a_server_goes_the_same_way_even_where_it_hangs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="the server needs the extra `serve`")
    from exsearch.serving.app import retrieval_app
    from exsearch.serving.conformance import run_checks
    from exsearch.serving.limits import Limits
    from serving_server import running, tiny_index

    with running(retrieval_app(*tiny_index(tmp_path), Limits())) as url, proxying(url.removeprefix("http://")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        faults = [
            each for each in run_checks(f"{ELSEWHERE}:81", "colbert", "capital of France") if each.fault is not None
        ]
        assert faults == []
        assert f"GET {ELSEWHERE}:81/" in proxy.asked
        assert "CONNECT search.example.org:81" in proxy.asked


def test_what_fails_behind_a_proxy_names_it_without_its_password(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", refusing.replace("http://", "http://me:s3cret@"))
    named = rf"\(through the proxy {refusing} of HTTP_PROXY\)"
    assert describe(httpx2.URL("http://127.0.0.1:8000/v1")) == "http://127.0.0.1:8000/v1"
    with pytest.raises(RetrievalError, match=rf"^{ELSEWHERE}/retrieve {named}: .*\(1 attempts\)"):
        Remote(ELSEWHERE, retries=0)
    monkeypatch.setattr("exsearch.engine.openai.endpoint.RETRY", RetryPolicy(0, 0.01))
    with pytest.raises(EngineError, match=rf"^{ELSEWHERE}/v1 {named} cannot be reached: "):
        asyncio.run(Endpoint(f"{ELSEWHERE}/v1", None, 60.0).post("completions", {}))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", ""])
def test_an_endpoint_that_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        Endpoint(url, None, 60.0)


def test_every_client_is_made_in_one_place() -> None:
    """Another way to speak HTTP would have another rule."""
    source = Path(sys.modules["exsearch"].__file__ or "").parent
    libraries = {"aiohttp", "http.client", "httpx", "openai", "requests", "urllib.request", "urllib3"}
    makers = {
        *(("httpx2", name) for name in ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "get", "post")),
        ("socket", "create_connection"),
    }
    found = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            imported |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            called = node.func if isinstance(node, ast.Call) else None
            named = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)
            if imported & libraries or (named and (called.value.id, called.attr) in makers):
                found.add(str(path.relative_to(source)))
    assert found == {"network/http_client.py"}
