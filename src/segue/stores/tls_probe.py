"""Whether a port speaks TLS, asked when a connection failed. Knows no store."""

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
