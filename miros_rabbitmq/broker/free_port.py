"""A TCP port on which a private node can listen."""

from __future__ import annotations

import secrets
import socket

from ..exceptions import LocalBrokerError

_PORTS = range(10_000, 32_768)
"""Below those that Linux gives to outgoing connections, so that none of these takes the port while
the node is down."""

_ATTEMPTS = 100


def free_port(host: str, other_than: int = 0) -> int:
    """A port of ``host`` on which nobody listens now.

    Raises:
        LocalBrokerError: nothing can listen on this host.
    """
    choose = secrets.SystemRandom()
    error: OSError | None = None
    for _ in range(_ATTEMPTS):
        port = choose.choice(_PORTS)
        if port == other_than:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the node itself does: connections that a dead node left in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as refused:
                error = refused
                continue
        return port
    raise LocalBrokerError(f"cannot listen on {host}: {error}") from error
