"""What went wrong with a broker, in words a user can act on.

The only place that words connection errors: the links of `amqp` and the scout of `discovery` both
use it.
"""

from __future__ import annotations

from shlex import quote

from .exceptions import AccessRefused, BrokerUnreachable, QueueTaken, UnknownHost, VhostNotFound
from .urls import Address

PERMISSIONS = " ".join([r"'^(miros\.|amq\.gen-)'"] * 3)
"""The least that a user must be allowed to configure, write and read, as arguments for
``rabbitmqctl set_permissions``: our exchanges and queues, and the queues of the snoops, which the
broker names."""


def unknown_host(address: Address, detail: str = "") -> UnknownHost:
    """The name does not resolve."""
    because = f" ({detail})" if detail else ""
    return UnknownHost(
        f"the host name {address.host!r} is not known here{because}: check its spelling and the "
        "name service, or give its IP address",
        str(address),
    )


def nothing_listens(address: Address) -> BrokerUnreachable:
    """The host answers, but no program listens on the port."""
    return BrokerUnreachable(
        f"nothing listens at {address}: start RabbitMQ there (systemctl start rabbitmq-server), "
        "or correct the host or the port",
        str(address),
    )


def no_answer(address: Address, detail: str) -> BrokerUnreachable:
    """The host does not answer, or not in time, or the connection broke."""
    return BrokerUnreachable(
        f"no usable connection to {address}: {detail}; check that the host is up and that no "
        "firewall is in the way",
        str(address),
    )


def message_refused(address: Address, detail: str) -> BrokerUnreachable:
    """The broker has closed the channel, or the connection, because of a message."""
    return BrokerUnreachable(f"{address} refused a message ({detail})", str(address))


def not_rabbitmq(address: Address, detail: str) -> BrokerUnreachable:
    """Something other than RabbitMQ answers."""
    return BrokerUnreachable(
        f"what listens at {address} is not a usable RabbitMQ broker ({detail}): correct the "
        "port, and give tls= only if that port expects TLS",
        str(address),
    )


def tls_failed(address: Address, detail: str) -> BrokerUnreachable:
    """The TLS handshake failed."""
    return BrokerUnreachable(
        f"TLS with {address} failed ({detail}): check the port, the broker's certificate and the "
        "authorities of the ssl.SSLContext given as tls=",
        str(address),
    )


def access_refused(address: Address, user: str) -> AccessRefused:
    """The broker refuses the user or the password."""
    return AccessRefused(
        f"{address} refuses the user {user!r} or its password: correct rabbit_user and "
        f"rabbit_password, or on the broker run: rabbitmqctl add_user {quote(user)} PASSWORD",
        str(address),
    )


def permission_refused(address: Address, user: str, detail: str) -> AccessRefused:
    """The broker knows the user, but does not allow what this package needs."""
    return AccessRefused(
        f"{address} does not give {user!r} the permissions it needs ({detail}): on the broker run: "
        f"rabbitmqctl set_permissions -p VHOST {quote(user)} {PERMISSIONS}",
        str(address),
    )


def vhost_not_found(address: Address, vhost: str, user: str) -> VhostNotFound:
    """The broker has no such virtual host, or not for this user."""
    return VhostNotFound(
        f"{address} has no virtual host {vhost!r} for the user {user!r}: correct rabbit_vhost, or "
        f"on the broker run: rabbitmqctl add_vhost {quote(vhost)}; rabbitmqctl set_permissions "
        f'-p {quote(vhost)} {quote(user)} ".*" ".*" ".*"',
        str(address),
    )


def queue_held(address: Address, patience_s: float | None = None) -> QueueTaken:
    """Another consumer has the queue; if it is an earlier connection of our own, not for long."""
    if patience_s is None:
        return QueueTaken(
            f"another program consumes from the queue at {address}, and one of the two demands to "
            "be the only one: stop that program, or name another queue",
            str(address),
        )
    return QueueTaken(
        f"the queue at {address} is still in use: by the connection before, which that broker has "
        "not given up yet, or by somebody else; what waits in it comes when it is free, and after "
        f"{patience_s:.0f} s a new queue takes its place",
        str(address),
    )


def queue_taken(address: Address, why: str) -> QueueTaken:
    """The queue is not ours any more."""
    return QueueTaken(
        f"somebody has taken the queue at {address}: {why}; a new one with another name takes its "
        "place, and what waited in the old one is lost. If that was nobody of yours, change the "
        "password of the RabbitMQ user",
        str(address),
    )
