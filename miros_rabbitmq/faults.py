"""What went wrong with a broker, in words a user can act on.

The only place that words connection errors: the links of `amqp` and the scout of `discovery` both
use it.
"""

from __future__ import annotations

import re
from shlex import quote

from .exceptions import (
    AccessRefused,
    BrokerError,
    BrokerUnreachable,
    ClosedByBroker,
    OutOfResources,
    QueueTaken,
    UnknownHost,
    VhostNotFound,
)
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


def starved(address: Address, short: OutOfResources) -> BrokerUnreachable:
    """This process lacks what it needs for a connection; the shortage is the ``__cause__``."""
    fault = BrokerUnreachable(f"no usable connection to {address}: {short}", str(address))
    fault.__cause__ = short
    return fault


def connection_broken(address: Address) -> BrokerUnreachable:
    """The connection broke without a word of the broker."""
    return BrokerUnreachable(
        f"the connection to {address} broke: its broker has ended, or something on the way has cut "
        "it",
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


def closed_by_broker(
    address: Address, code: int, text: str, user: str, vhost: str, *, is_opening: bool = False
) -> BrokerError:
    """The broker has closed a channel or a connection, and said why.

    Args:
        address: the broker's.
        code: the reply code of AMQP.
        text: the reply text of RabbitMQ.
        user: the user of the connection.
        vhost: its virtual host.
        is_opening: whether that was while the connection was being opened.
    """
    if code == 403:
        if is_opening:
            return access_refused(address, user)
        if "access to topic" in text:
            return AccessRefused(
                f"{address} does not let {user!r} use a routing key ({text}): on the broker, see "
                "rabbitmqctl list_topic_permissions, and set_topic_permissions",
                str(address),
            )
        return permission_refused(address, user, text)
    for pattern, wording in _CLOSED.get(code, ()):
        if found := re.search(pattern, text):
            words = wording.format(*found.groups(), user=quote(user), vhost=quote(vhost), text=text)
            return ClosedByBroker(f"{address} {words}", str(address))
    if code == 530 and is_opening:
        return vhost_not_found(address, vhost, user)
    return ClosedByBroker(
        f"{address} has closed the connection ({code}, {text}): see the log of RabbitMQ there",
        str(address),
    )


_ANYTHING = ""
_MALFORMED = (
    _ANYTHING,
    "has understood something otherwise than it was meant ({text}): is there a proxy in between "
    "that changes what passes? If not, please report it, with the versions of RabbitMQ and pika",
)

_CLOSED: dict[int, list[tuple[str, str]]] = {
    311: [
        (_ANYTHING, "refuses a message for its size ({text}): transmit smaller events"),
    ],
    320: [
        (
            "shutdown|maintenance",
            "is being stopped or restarted ({text}): what was sent and not confirmed is sent again",
        ),
        (
            r"user '.*' (?:is|was) deleted",
            "has no user {user} any more ({text}): on the broker run: "
            "rabbitmqctl add_user {user} PASSWORD",
        ),
        (
            "vhost '.*' is (?:deleted|down)",
            "has closed the virtual host {vhost} ({text}): on the broker, see rabbitmqctl "
            "list_vhosts name cluster_state",
        ),
        (
            _ANYTHING,
            "has been told to close the connection ({text}): it is stopped or restarted, or "
            "somebody has closed it (rabbitmqctl close_connection, or the management page)",
        ),
    ],
    404: [
        (
            "no exchange '(.*?)'",
            "has no exchange {0!r} any more ({text}): somebody has deleted it; it is declared anew",
        ),
        (
            "queue '(.*?)'.* is down or inaccessible",
            "does not reach the queue {0!r}, as the node of its cluster that has the queue is down "
            "({text}): start that node",
        ),
        (
            "no queue '(.*?)'",
            "has no queue {0!r} any more ({text}): somebody has deleted it, or it has expired; it "
            "is declared anew, and what waited in it is lost",
        ),
    ],
    405: [
        (
            "queue '(.*?)'",
            "lets only another connection use the queue {0!r} ({text}): stop the other program, or "
            "name another queue",
        ),
    ],
    406: [
        (
            r"delivery acknowledgement on channel \d+ timed out. Timeout value used: (\d+) ms",
            "has taken back what it had delivered, because it was not acknowledged within {0} ms: "
            "for so long the chart, or its callback, has taken no more events. They come again, "
            "and nothing is lost. A handler that needs so long should leave its work to another "
            "thread; the time is RabbitMQ's consumer_timeout, see rabbitmq.conf",
        ),
        (
            "delivery acknowledgement|consumer.* timed out",
            "has taken back what it had delivered, because it was not acknowledged in time "
            "({text}): for so long the chart, or its callback, has taken no more events. They come "
            "again, and nothing is lost. The time is RabbitMQ's consumer_timeout",
        ),
        (
            r"message size (\d+) .*?(?:max size|limit) (\d+)",
            "refuses a message of {0} bytes, as its max_message_size is {1}: transmit smaller "
            "events, or raise max_message_size in rabbitmq.conf there",
        ),
        (
            "inequivalent arg '(.*?)' for (exchange|queue) '(.*?)'",
            "already has the {1} {2!r}, declared with another {0} ({text}): delete that one "
            "on the management page, or use another virtual host",
        ),
        (
            "unknown delivery tag",
            "does not know a message that was acknowledged ({text}): everything that was not "
            "acknowledged before comes again. Please report it",
        ),
        (_ANYTHING, "refuses what it was asked for ({text}): see the log of RabbitMQ there"),
    ],
    506: [
        (_ANYTHING, "has run out of something ({text}): see the log of RabbitMQ there"),
    ],
    530: [
        (
            r"user connection limit \((\d+)\)",
            "allows {user} only {0} connections ({text}): a chart needs one for what it receives "
            "and one for each broker that it sends to, and more for snoops. On the broker run: "
            "rabbitmqctl clear_user_limits {user} max-connections",
        ),
        (
            r"node connection limit \((\d+)\)",
            "allows only {0} connections ({text}): raise connection_max in rabbitmq.conf there",
        ),
        (
            r"connection limit \((\d+)\)",
            "allows only {0} connections to the virtual host {vhost} ({text}): on the broker "
            "run: rabbitmqctl clear_vhost_limits -p {vhost}",
        ),
        (
            "vhost '.*' is down",
            "has trouble with the virtual host {vhost} ({text}): on the broker run: rabbitmqctl "
            "restart_vhost -p {vhost}",
        ),
        (
            "channel",
            "allows no more channels ({text}): raise channel_max in rabbitmq.conf there",
        ),
    ],
    540: [
        (
            _ANYTHING,
            "cannot do what it was asked for ({text}): is it RabbitMQ 3.8 or newer?",
        ),
    ],
    541: [
        (
            "deprecated|not permitted",
            "does not allow a feature of RabbitMQ ({text}): see deprecated_features in "
            "rabbitmq.conf there",
        ),
        (
            _ANYTHING,
            "has an error of its own ({text}): see the log of RabbitMQ there; what was sent and "
            "not confirmed is sent again",
        ),
    ],
    **{code: [_MALFORMED] for code in (402, 501, 502, 503, 504, 505)},
}
"""What RabbitMQ says when it closes a channel or a connection: by the reply code of AMQP 0-9-1
(https://www.rabbitmq.com/amqp-0-9-1-reference#constants), patterns of its text and what to say."""
