"""Recognises names and addresses of this machine."""

import ipaddress
import re
import socket

_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without brackets, always means this machine."""
    host = host.lower().removesuffix(".")  # which marks a fully qualified name
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if _NUMBERS.fullmatch(host):  # such as 127.1, which is completed on connecting
        try:
            host = socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
