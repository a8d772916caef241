"""The errors this package raises, in one tree.

::

    MirosRabbitMQError
    ├── MirosApiException      an object or argument does not fit the contract of the API
    ├── SettingsError          a constructor argument has a value that cannot work (a ValueError)
    │   └── MalformedKey       an encryption key is not a Fernet key
    ├── BrokerError            a broker cannot be used (a ConnectionError); carries ``host``
    │   ├── UnknownHost        its name does not resolve
    │   ├── BrokerUnreachable  nothing answers there, or what answers is not RabbitMQ
    │   ├── AccessRefused      it refuses the user or the password
    │   ├── VhostNotFound      it has no such virtual host, or not for this user
    │   ├── QueueTaken         it is there, but somebody else has the queue
    │   └── ClosedByBroker     it has closed the connection, and said why
    ├── TransmitError          an event was not accepted for sending; no broker gets it
    │   ├── PayloadRefused     it cannot be serialized, is too large, or would be refused there
    │   ├── BackPressure       the sender is too fast for its brokers (a TimeoutError)
    │   └── NetworkStopped     the network is not started yet, is stopped, or is the parent's
    ├── OutOfResources         no file descriptor, thread or memory is left (an OSError)
    ├── MessageRejected        received bytes are not a message for us; carries ``reason``
    └── LocalBrokerError       a private RabbitMQ node could not be started or controlled

Exceptions of pika never leave this package: they are translated where they are caught, with
``raise ... from``. No message contains a password or a key.
"""

from __future__ import annotations

import enum


class MirosRabbitMQError(Exception):
    """The base of every error of this package."""


class MirosApiException(MirosRabbitMQError):
    """An object or an argument does not fit the contract of the API."""


class SettingsError(MirosRabbitMQError, ValueError):
    """A constructor argument has a value that cannot work."""


class MalformedKey(SettingsError):
    """An encryption key is not what ``Fernet.generate_key()`` makes."""


class BrokerError(MirosRabbitMQError, ConnectionError):
    """A broker cannot be used.

    Args:
        message: what happened and what to do about it.
        host: the ``host:port`` it happened to.
        has_answered: whether a program has answered there, so that this is more than an absence.
    """

    has_answered: bool = True

    def __init__(self, message: str, host: str = "", *, has_answered: bool | None = None) -> None:
        super().__init__(message)
        self.host = host
        if has_answered is not None:
            self.has_answered = has_answered


class UnknownHost(BrokerError):
    """The name of the host does not resolve."""

    has_answered = False


class BrokerUnreachable(BrokerError):
    """Nothing answers at the address, or what answers is not RabbitMQ."""

    has_answered = False


class AccessRefused(BrokerError):
    """The broker refuses the user name or the password."""


class VhostNotFound(BrokerError):
    """The broker has no such virtual host, or does not open it to this user."""


class QueueTaken(BrokerError):
    """Somebody else has the queue of a consumer, for now or for good."""


class ClosedByBroker(BrokerError):
    """The broker has closed the connection, or its channel, and said why."""


class TransmitError(MirosRabbitMQError):
    """An event was not accepted for sending; no broker gets it."""


class PayloadRefused(TransmitError):
    """The event cannot be serialized, is too large, or would be refused by its receivers."""


class BackPressure(TransmitError, TimeoutError):
    """The backlog for healthy brokers, or for all, was full for ``transmit_timeout``."""


class NetworkStopped(TransmitError):
    """The network is not running: not started yet, stopped already, or in a forked child."""


class OutOfResources(MirosRabbitMQError, OSError):
    """The process has no file descriptor, thread or memory left.

    Args:
        message: what has run out, how much of it the process has, and what to do about it.
        what: "file descriptors", "threads", "processes" or "memory"; or "threads at exit", which
            Python refuses to every program that is ending.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class RejectReason(enum.Enum):
    """Why a received message, or one event in it, was rejected; in the order of the checks."""

    OVERSIZE = "larger than the limit"
    WRONG_NETWORK = "from an exchange of another network"
    MISROUTED = "for a routing key that this node has not asked for"
    OTHER_FORMAT = "of another format"
    MALFORMED = "not laid out like one of ours"
    NOT_AUTHENTIC = "not authenticated by a key of ours"
    GIVEN_UP = "in a gap that was closed, because there were too many"
    LATE = "behind events of its sender that were handed over before"
    TOO_OLD = "too old for max_age_s"
    CLOCK_SKEW = "from the future: a clock is wrong"
    NOT_DESERIALIZABLE = "refused by the deserializer"
    INNER_SIGNAL = "an inner signal of miros"
    SIGNAL_NAME = "an event whose signal name is not printable, or too long"


class MessageRejected(MirosRabbitMQError):
    """Received bytes are not a message for us.

    Args:
        reason: the check that refused them.
        detail: what that check found; never a part of the plain text.
        cause: tells apart what may be behind the same reason, if that matters for a warning.
    """

    def __init__(self, reason: RejectReason, detail: str = "", cause: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.cause = cause


class LocalBrokerError(MirosRabbitMQError):
    """A private RabbitMQ node could not be started or controlled."""
