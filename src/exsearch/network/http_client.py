"""HTTP clients for other machines: one kind of client, and one rule for when to use a proxy.

Servers on this machine are contacted directly. Any other server is contacted through the proxy that the environment
sets for its scheme (`HTTP_PROXY`, `HTTPS_PROXY`, otherwise `ALL_PROXY`; a lower-case name has precedence over its
upper-case one), unless `NO_PROXY` names the server: comma-separated domains, which include their subdomains, addresses,
networks such as 10.0.0.0/8, each with or without a port, or `*` for all.
"""

import base64
import ipaddress
import os
import re
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import getproxies_environment

import httpx2

from exsearch.core.errors import UsageError
from exsearch.network.loopback import is_loopback

_DIRECTLY = ("0.0.0.0", "::")
"""Connecting to "any address" means connecting to this machine."""
_PORT = re.compile(r"(?P<host>\[.*\]|[^:]*):(?P<port>[0-9]+)")


class Proxy(NamedTuple):
    """The proxy for a server."""

    url: httpx2.URL
    """With user and password, if it needs them."""
    variable: str
    """The environment variable that sets it."""

    def __str__(self) -> str:
        """Return it for a message, without its password."""
        return f"the proxy {self.url.copy_with(username=None, password=None)} of {self.variable}"


def proxy_of(url: httpx2.URL) -> Proxy | None:
    """Return the proxy for a URL. Raises UsageError, which names the variable, for a proxy that cannot be used."""
    if is_loopback(url.host) or url.host in _DIRECTLY:
        return None
    proxies = getproxies_environment()
    scheme = url.scheme if url.scheme in proxies else "all"
    value = proxies.get(scheme, "").strip()
    if not value or _is_exempt(url, proxies.get("no", "")):
        return None
    # lower-case letters sort after upper-case ones
    variable = max(name for name in os.environ if name.lower() == f"{scheme}_proxy" and os.environ[name])
    try:
        address = httpx2.URL(value if "://" in value else f"http://{value}")
    except httpx2.InvalidURL as error:
        raise UsageError(f"{variable}: not the URL of a proxy ({error}); write it like http://HOST:PORT") from None
    displayed = address.copy_with(username=None, password=None)
    if address.scheme not in ("http", "https", "socks5", "socks5h") or not address.host:
        raise UsageError(f"{variable}={displayed}: not the URL of a proxy; write it like http://HOST:PORT")
    if address.scheme.startswith("socks"):
        try:
            import socksio  # noqa: F401
        except ImportError:
            raise UsageError(
                f"{variable}={displayed}: SOCKS needs a package that is not installed: python -m pip install socksio; "
                f"or name {url.host} in NO_PROXY"
            ) from None
    return Proxy(address, variable)


def describe(url: httpx2.URL) -> str:
    """Return a URL for a message, without its password and with the proxy before it. Raises as `proxy_of` does."""
    proxy, displayed = proxy_of(url), url.copy_with(username=None, password=None)
    return str(displayed) if proxy is None else f"{displayed} (through {proxy})"


def client(
    url: httpx2.URL,
    timeout: httpx2.Timeout,
    limits: httpx2.Limits | None = None,
    headers: dict[str, str] | None = None,
    auth: tuple[str, str] | None = None,
) -> httpx2.Client:
    """Return a client for the server of a URL, and no other. Safe to share between threads.

    Without `limits`, the number of connections is not limited. Raises UsageError as `proxy_of` does.
    """
    transport = httpx2.HTTPTransport(proxy=_address(url), limits=limits or httpx2.Limits())
    return httpx2.Client(transport=transport, timeout=timeout, headers=headers, auth=auth)


def async_client(url: httpx2.URL, timeout: httpx2.Timeout, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
    """Return a client for the server of a URL, and no other, in one event loop; see `client`."""
    transport = httpx2.AsyncHTTPTransport(proxy=_address(url), limits=httpx2.Limits())
    return httpx2.AsyncClient(transport=transport, timeout=timeout, headers=headers)


MAX_BYTES = 1 << 26
"""Maximum size of an answer, unpacked."""


class TooLongError(Exception):
    """An answer was longer than MAX_BYTES."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__(f"the answer is longer than {MAX_BYTES >> 20} MiB")


class _Body:
    """Collects the chunks of an answer within limits."""

    def __init__(self, seconds: float) -> None:
        self.content = bytearray()
        self._deadline = time.monotonic() + seconds

    def add(self, chunk: bytes) -> None:
        self.content += chunk
        if len(self.content) > MAX_BYTES:
            raise TooLongError
        if time.monotonic() > self._deadline:  # httpx2 only limits the time between two chunks
            raise httpx2.ReadTimeout("")


def exchange(client: httpx2.Client, request: httpx2.Request, seconds: float) -> tuple[httpx2.Response, bytes]:
    """Send a request; return the response and its body. Raises httpx2.HTTPError and TooLongError."""
    body, response = _Body(seconds), client.send(request, stream=True)
    try:
        for chunk in response.iter_bytes():
            body.add(chunk)
    finally:
        response.close()
    return response, bytes(body.content)


async def exchange_async(
    client: httpx2.AsyncClient, request: httpx2.Request, seconds: float
) -> tuple[httpx2.Response, bytes]:
    """Do the same in an event loop."""
    body, response = _Body(seconds), await client.send(request, stream=True)
    try:
        async for chunk in response.aiter_bytes():
            body.add(chunk)
    finally:
        await response.aclose()
    return response, bytes(body.content)


def connect(url: httpx2.URL, seconds: float) -> socket.socket:
    """Return a plain connection to the server of a URL, encrypted for https. Raises OSError and UsageError.

    Through an HTTP proxy, it is a tunnel (CONNECT); other proxies are not supported.
    """
    secured, proxy = url.scheme == "https", proxy_of(url)
    port = url.port or (443 if secured else 80)
    if proxy is None:
        plain = socket.create_connection((url.host, port), timeout=seconds)
    elif proxy.url.scheme == "http":
        plain = _tunnel(proxy.url, url.host, port, seconds)
    else:
        raise OSError(f"no plain connection through {proxy}")
    return ssl.create_default_context().wrap_socket(plain, server_hostname=url.host) if secured else plain


def check_hub(id: str) -> None:
    """Raise UsageError if downloading `id` needs a proxy that the model hub's client does not support.

    That client would fail with a traceback. Folders need no download.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not Path(id).is_dir():
        proxy_of(httpx2.URL(constants.ENDPOINT))


def _address(url: httpx2.URL) -> httpx2.URL | None:
    proxy = proxy_of(url)
    return None if proxy is None else proxy.url


def _is_exempt(url: httpx2.URL, no_proxy: str) -> bool:
    """Return whether the value of NO_PROXY names the URL's host."""
    port = url.port or (443 if url.scheme == "https" else 80)
    return any(_matches(entry.strip().lower(), url.host.lower(), port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if with_port := _PORT.fullmatch(entry):
        if int(with_port["port"]) != port:
            return False
        entry = with_port["host"]
    entry = entry.removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # one of the two is a name
        domain = entry.removeprefix("*").removeprefix(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _tunnel(proxy: httpx2.URL, host: str, port: int, seconds: float) -> socket.socket:
    connection = HTTPConnection(proxy.host, proxy.port or 80, timeout=seconds)
    user = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    connection.set_tunnel(host, port, {"Proxy-Authorization": f"Basic {user}"} if proxy.username else {})
    try:
        connection.connect()
    except HTTPException as error:
        raise OSError(f"the proxy did not answer like one ({error})") from None
    return connection.sock
