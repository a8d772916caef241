"""What a program that is not RabbitMQ seems to be, by its port and by the first bytes it sends.

Pure. For the words of a fault; nothing else depends on it.
"""

from __future__ import annotations

import re

from .urls import DEFAULT_PORT, DEFAULT_TLS_PORT

GREETING_BYTES = 64
"""How many of the first bytes are worth looking at."""

_TLS_RECORDS = (0x15, 0x16)  # alert and handshake (RFC 8446, 5.1)

_PORTS = {
    22: "of SSH",
    80: "of web pages",
    443: "of web pages",
    1883: "of RabbitMQ's MQTT",
    4369: "of epmd, Erlang's port mapper",
    5552: "of RabbitMQ's streams",
    8883: "of RabbitMQ's MQTT",
    15671: "of RabbitMQ's management page",
    15672: "of RabbitMQ's management page",
    15692: "of RabbitMQ's metrics",
    25672: "by which RabbitMQ's nodes and rabbitmqctl talk",
    61613: "of RabbitMQ's STOMP",
}


def expects_tls(first: bytes) -> bool:
    """Whether a program answers as one does that expects TLS."""
    return first[:1] != b"" and first[0] in _TLS_RECORDS


def sounds_like(first: bytes, secret: str = "") -> str:
    """What the first bytes of a program say it is, without a secret; empty for nothing."""
    if not first:
        return ""
    if first.startswith(b"HTTP/"):
        return "it is a web server"
    if first.startswith(b"SSH-"):
        return "it is an SSH server"
    if first.startswith(b"AMQP") and len(first) >= 8:
        return f"it speaks AMQP {first[5]}.{first[6]}.{first[7]} only, not AMQP 0.9.1"
    if expects_tls(first):
        return "it speaks TLS"
    if secret:
        first = first.replace(secret.encode(errors="replace"), b"***")
    shown = re.sub(rb"[^ -~]+", b".", first[:20]).decode()
    return f"it does not speak AMQP 0-9-1, and begins with {shown!r}"


def usual_use(port: int) -> str:
    """A hint at what a port usually is for, if that is not AMQP; empty for nothing."""
    use = _PORTS.get(port)
    if use is None:
        return ""
    return (
        f". Port {port} is usually that {use}; AMQP has {DEFAULT_PORT}, and {DEFAULT_TLS_PORT} "
        "with TLS"
    )
