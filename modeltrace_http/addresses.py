"""Addresses to listen on, and the hosts that requests name."""

import ipaddress
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def parse_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a text represents; `None` if it is a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    address = parse_address(host)
    return host == "localhost" if address is None else address.is_loopback


def host_name(host: str) -> str:
    """Return the name or address in a Host header without the port; "" if it is invalid."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
