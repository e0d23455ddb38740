"""Which names and addresses mean this machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address without brackets, is this machine and nothing else."""
    host = host.lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
