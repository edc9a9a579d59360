"""Where an address leads: to this machine or to another one. Knows no store."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from segue.ports import Transport


def transport(address: str, *, encrypted: bool, verified: bool) -> Transport:
    """Return how a server at an address is reached; one without a host is a file or a socket here."""
    return Transport(address, is_local=is_local(urlsplit(address).hostname), is_encrypted=encrypted, is_verified=verified)


def is_local(host: str | None) -> bool:
    """Say whether a host is this machine, by its name alone."""
    if host is None or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
