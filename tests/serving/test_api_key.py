"""Every server, whatever it is asked: who has no key, comes from another site or compresses is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from exsearch.cli.serve import serve
from exsearch.core.errors import UsageError
from exsearch.serving.routes import OpenRoute
from exsearch.serving.sites import Sites
from serving_server import running, tiny_index

SERVERS = {"retrieval": [], "mcp": ["--transport", "http"]}
"""The commands that listen, with what makes them."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "SEARCH"]
ODD_PATHS = ["/", "//", "/health", "/health/", "//health", "/Health", "/health/x", "/health%2f", "/health;x"]
ODD_PATHS += ["/healthz", "/healthz/", "/metrics", "/metrics/", "/openapi.json", "/retrieve", "/nowhere", "/mcp/"]
ODD_PATHS += ["/../health", "*"]
OPEN = {("retrieval", method, path) for method in ("GET", "HEAD") for path in ("/health", "/healthz")}
SEARCH = json.dumps({"query": "capital", "k": 1}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    tiny_index(folder)
    (folder / "key").write_text("s3cret")
    return folder


@contextmanager
def started(folder: Path, server: str, *options: str) -> Iterator[tuple[str, Starlette]]:
    """Start a server as its command does, but in a thread; yield its URL and its application."""
    apps: list[Starlette] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exsearch.cli.serve._listen", lambda app, *rest: apps.append(app))
        arguments = [server, str(folder / "index"), *SERVERS[server], *options]
        CliRunner().invoke(serve, arguments, catch_exceptions=False, standalone_mode=False)
    [app] = apps
    with running(app) as url:
        yield url, app


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    response = connection.getresponse()
    # an MCP stream does not end
    content = b"" if response.getheader("content-type", "").startswith("text/event-stream") else response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def test_every_command_that_listens_is_walked() -> None:
    listening = {
        name
        for name, command in serve.commands.items()
        if {"--host", "--port"} <= {word for parameter in command.params for word in parameter.opts}
    }
    assert listening == set(SERVERS)
    for name in listening:
        assert "--api-key-file" in {word for parameter in serve.commands[name].params for word in parameter.opts}


@pytest.mark.parametrize("server", SERVERS)
def test_without_the_key_no_method_of_any_route_answers_but_those_registered_as_open(folder: Path, server: str) -> None:
    with started(folder, server, "--api-key-file", str(folder / "key")) as (url, app):
        routes = [route for route in app.routes if isinstance(route, Route)]
        assert len(routes) == len(app.routes) > 0
        paths = dict.fromkeys([*(route.path.replace("{path:path}", "any/where") for route in routes), *ODD_PATHS])
        registered = {
            (server, method, route.path)
            for route in routes
            if isinstance(route, OpenRoute)
            for method in route.methods or METHODS
        }
        assert registered == {each for each in OPEN if each[0] == server}
        for path in paths:
            for method in METHODS:
                answered = [
                    ask(url, method, path, SEARCH)[0],
                    ask(url, method, f"{path}?query=capital&k=1", X_API_Key="s3cre")[0],
                    ask(url, method, f"{path}?query=capital&k=1", SEARCH, Authorization="Bearer S3CRET")[0],
                ]
                expected = 200 if (server, method, path) in registered else 401
                assert answered == [expected] * 3, (method, path)


@pytest.mark.parametrize("server", SERVERS)
def test_with_the_key_every_route_is_reached(folder: Path, server: str) -> None:
    with started(folder, server, "--api-key-file", str(folder / "key")) as (url, app):
        for route in app.routes:
            assert isinstance(route, Route)
            path = route.path.replace("{path:path}", "any/where")
            for headers in ({"X_API_Key": "s3cret"}, {"Authorization": "bearer s3cret"}):
                assert ask(url, "GET", path, **headers)[0] != 401
        if server == "retrieval":
            assert json.loads(ask(url, "POST", "/any/where", SEARCH, X_API_Key="s3cret")[2])["topk"]


def test_a_route_that_is_open_for_one_method_is_closed_for_the_others(folder: Path) -> None:
    """The catch-all dialect takes any path: a search must not pass where a health check does."""
    with started(folder, "retrieval", "--api-key-file", str(folder / "key")) as (url, _):
        for path in ("/health", "/healthz"):
            status, headers, content = ask(url, "POST", path, SEARCH)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert b"capital" not in content
            status, headers, _ = ask(url, "POST", path, SEARCH, X_API_Key="s3cret")
            assert (status, set(headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


@pytest.mark.parametrize("server", SERVERS)
def test_a_method_that_a_path_lacks_is_a_405_that_names_those_it_has(folder: Path, server: str) -> None:
    with started(folder, server) as (url, app):
        for route in app.routes:
            assert isinstance(route, Route)
            path = route.path.replace("{path:path}", "any/where")
            for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "SEARCH"):
                status, headers, _ = ask(url, method, path)
                assert status == 405, (method, path)
                allowed = set(headers["allow"].split(", "))
                assert allowed == (route.methods or {"GET", "POST", "DELETE"})


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused_for_what_it_is(folder: Path, server: str, encoding: str) -> None:
    with started(folder, server) as (url, _):
        status, headers, content = ask(url, "POST", "/mcp", b"\x1f\x8b\x08", Content_Encoding=encoding)
        assert (status, headers["accept-encoding"]) == (415, "identity")
        assert f"Content-Encoding: {encoding}" in json.loads(content)["message"]
        assert ask(url, "POST", "/mcp", SEARCH, Content_Encoding="identity")[0] != 415


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_closes_after_a_long_body_sees_why_it_was_refused(folder: Path, server: str) -> None:
    with started(folder, server, "--api-key-file", str(folder / "key")) as (url, _):
        for headers, expected in (({}, 401), ({"X_API_Key": "s3cret", "Content_Encoding": "gzip"}, 415)):
            assert ask(url, "POST", "/", b"x" * 20_000_000, Connection="close", **headers)[0] == expected


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_page_of_another_site_is_refused_wherever_the_server_listens(folder: Path, server: str, host: str) -> None:
    with started(folder, server, "--host", host, "--allowed-origin", "https://App.example.org") as (url, _):
        for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1@evil.example"):
            status, _, content = ask(url, "POST", "/mcp", SEARCH, Origin=origin)
            assert status == 403
            assert origin in json.loads(content)["message"]
        for origin in ("http://localhost:6274", "http://127.0.0.1", "http://[::1]:80", "https://app.example.org"):
            assert ask(url, "POST", "/mcp", SEARCH, Origin=origin)[0] not in (403, 421)


def test_an_mcp_server_at_a_loopback_address_answers_to_its_own_names_and_those_it_is_given(folder: Path) -> None:
    with started(folder, "mcp") as (url, _):
        for host in ("search.example.org", "evil.example:8000", "localhost.evil.example", ""):
            assert ask(url, "POST", "/mcp", SEARCH, Host=host)[0] == 421
        for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"):
            assert ask(url, "POST", "/mcp", SEARCH, Host=host)[0] not in (403, 421)
    names = ["--allowed-host", "search.example.org", "--allowed-host", "other.example.org:8443"]
    with started(folder, "mcp", *names) as (url, _):
        for host in ("search.example.org", "Search.Example.org:443", "other.example.org:8443", "localhost:1"):
            status = ask(url, "POST", "/mcp", SEARCH, Host=host, Origin=f"https://{host}")[0]
            assert status not in (403, 421)
        for host in ("other.example.org", "other.example.org:1", "www.search.example.org"):
            assert ask(url, "POST", "/mcp", SEARCH, Host=host)[0] == 421


def test_any_other_server_answers_to_any_name_unless_it_is_given_some(folder: Path) -> None:
    for server, options in (("retrieval", []), ("mcp", ["--host", "0.0.0.0"])):
        with started(folder, server, *options) as (url, _):
            assert ask(url, "POST", "/mcp", SEARCH, Host="node-7:8000")[0] not in (403, 421)
        with started(folder, server, *options, "--allowed-host", "search.example.org") as (url, _):
            assert ask(url, "POST", "/mcp", SEARCH, Host="node-7:8000")[0] == 421


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--allowed-host", "https://search.example.org"], "--allowed-host https://search.example.org: not a host"),
        (["--allowed-host", "a b"], "not a host"),
        (["--allowed-host", ""], "not a host"),
        (["--allowed-host", "*"], "not a host"),
        (["--allowed-host", "*.example.org"], "not a host"),
        (["--allowed-host", "search.example.org:99999"], "not a host"),
        (["--allowed-host", "::1"], "HOST:PORT or [::1]"),
        (["--allowed-origin", "app.example.org"], "--allowed-origin app.example.org: not an origin"),
        (["--allowed-origin", "https://app.example.org/"], "not an origin"),
        (["--allowed-origin", "*"], "not an origin"),
        (["--allowed-origin", "https://*.example.org"], "not an origin"),
    ],
)
@pytest.mark.parametrize("server", SERVERS)
def test_what_is_no_host_or_no_origin_is_a_usage_error(
    folder: Path, server: str, options: list[str], complaint: str
) -> None:
    result = CliRunner().invoke(serve, [server, str(folder / "index"), *SERVERS[server], *options])
    assert isinstance(result.exception, UsageError)
    assert complaint in str(result.exception)


hosts = st.lists(st.text("abcxyz", min_size=1, max_size=5), min_size=2, max_size=3).map(".".join)


@given(hosts, hosts, st.integers(1, 65535))
def test_a_name_is_known_with_any_port_and_no_other_name_is(known: str, other: str, port: int) -> None:
    sites = Sites([known.upper()])
    for written in (known, f"{known}:{port}"):
        assert sites.has_host(written)
        assert sites.has_origin(f"https://{written}")
    if other != known:
        for written in (other, f"{other}:{port}", f"{known}.{other}", f"{other}.{known}"):
            assert sites.has_host(written) is (written == known)
            assert sites.has_origin(f"https://{written}") is (written == known)
            assert Sites().has_host(written)
            assert not Sites().has_origin(f"https://{written}")


def test_the_open_routes_are_those_that_the_documentation_names() -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
    for path in {path for _, _, path in OPEN}:
        assert f"`GET {path}`" in text
