"""Whether a connection failed by TLS, and whether a port speaks it. Knows no store."""

from __future__ import annotations

import socket
import ssl

PROBE_SECONDS = 2.0


def takes_tls(host: str, port: int) -> bool:
    """Say whether a server there answers a TLS handshake, be it by refusing it; false where nobody answers."""
    # Only asks whether it is TLS: nothing is sent through it, so whom the certificate names does not matter.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as wire, context.wrap_socket(wire):
            return True
    except ssl.SSLError as refusal:
        return "ALERT" in (refusal.reason or "")
    except OSError:
        return False


def was_refused_by_tls(fault: BaseException) -> bool:
    """Say whether an error of TLS is among what led to a fault."""
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
