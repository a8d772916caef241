"""The boundary to pika: the parameters of a connection, and pika's exceptions in our words."""

from __future__ import annotations

import ast
import errno
import logging
import os
import re
import secrets
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pika
import pika.channel
import pika.connection
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from .. import faults
from ..closings import closed_by_broker
from ..exceptions import BrokerError, SettingsError
from ..introduction import foreign
from ..limits import Limits
from ..resources import shortage
from ..urls import Address, AmqpUrl, amqp_url

_CLOSED = (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ChannelClosedByBroker)
_PROBABLE = (
    pika.exceptions.ProbableAuthenticationError,
    pika.exceptions.ProbableAccessDeniedError,
)
_BROKEN = (pika.exceptions.StreamLostError, ConnectionResetError, BrokenPipeError)
_SAID = re.compile(r"ClosedByBroker: \((\d{3})\) (.*)", re.DOTALL)
"""What the broker said, in the text with which pika guesses why a connection was not opened: the
code, and the ``repr`` of the text."""

_NO_ROUTE = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ETIMEDOUT}
)


@dataclass(frozen=True)
class Endpoint:
    """A broker, and how to connect to it.

    Args:
        url: the URL of the broker, with user, password and vhost.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL.
        longest_heartbeat_s: the connection's heartbeat is that of the limits, but at most this.

    Raises:
        SettingsError: the URL is not an AMQP URL.
    """

    url: AmqpUrl
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None
    longest_heartbeat_s: int | None = None

    def __post_init__(self) -> None:
        _parsed(self.url)

    @property
    def heartbeat_s(self) -> int:
        """The heartbeat of the connection, in seconds."""
        ours = self.limits.heartbeat_s
        return ours if self.longest_heartbeat_s is None else min(ours, self.longest_heartbeat_s)


def translate(
    error: BaseException,
    url: AmqpUrl,
    parameters: pika.connection.Parameters,
    greeting: bytes = b"",
) -> BrokerError:
    """Word an exception of pika, or of the socket under it, as one of ours.

    Args:
        error: what pika raised or handed to a callback.
        url: the broker it happened with.
        parameters: those of the connection.
        greeting: the first bytes that have arrived; empty for none.
    """
    address = url.address
    login = parameters.credentials
    said_to = login.username, parameters.virtual_host, login.password
    for link in _chain(error):
        # pika wraps it in errors that mean something else, such as the loss of a connection.
        short = shortage(link)
        if short is not None:
            return faults.starved(address, short)
    for link in _chain(error):
        text = str(link)
        if isinstance(link, _CLOSED):
            return closed_by_broker(address, link.reply_code, link.reply_text, *said_to)
        if isinstance(link, _PROBABLE):
            # pika only guesses if the broker did not say why.
            if said := _SAID.search(text):
                return closed_by_broker(address, int(said[1]), _unquoted(said[2]), *said_to)
            return faults.connection_broken(address, "while it was opened")
        if isinstance(link, pika.exceptions.AuthenticationError):
            return faults.no_passwords(address, "another way to log in")
        if isinstance(link, pika.exceptions.AMQPHeartbeatTimeout):
            return faults.went_silent(address, text)
        if isinstance(link, pika.exceptions.IncompatibleProtocolError):
            if parameters.ssl_options is not None and not greeting:
                # In TLS 1.3 a client learns only after the handshake that it was refused.
                return faults.tls_failed(address, "it hung up right after the handshake")
            return foreign(address, greeting, login.password)
        if isinstance(link, AMQPConnectorStackTimeout):
            return (
                foreign(address, greeting, login.password) if greeting else faults.silent(address)
            )
        if isinstance(link, pika.exceptions.ProtocolSyntaxError):
            return faults.garbled(address, f"{type(link).__name__}: {text}")
        if isinstance(link, ssl.SSLError):
            return faults.tls_failed(address, text)
        if isinstance(link, _BROKEN):
            return faults.connection_broken(address)
        if isinstance(link, OSError) and (fault := _of_socket(link, address)):
            return fault
    for link in _chain(error):
        # Another address of the same host may have said more.
        if isinstance(link, TimeoutError):
            return faults.unreachable(address, "the attempt to connect timed out")
        if isinstance(link, OSError) and link.errno in _NO_ROUTE:
            return faults.unreachable(address, os.strerror(link.errno))
    last = list(_chain(error))[-1]
    return faults.not_understood(address, f"{type(last).__name__}: {last}".removesuffix(": "))


def _of_socket(error: OSError, address: Address) -> BrokerError | None:
    """Word an error of the operating system; `None` for one that says nothing."""
    if error.errno == errno.EADDRNOTAVAIL:
        return faults.failed_here(address, str(error))
    if isinstance(error, socket.gaierror):
        detail, is_unanswered = str(error.strerror), error.errno == socket.EAI_AGAIN
        return faults.unknown_host(address, detail, is_unanswered=is_unanswered)
    if isinstance(error, ConnectionRefusedError):
        return faults.nothing_listens(address)
    return None


def _unquoted(shown: str) -> str:
    """The text that a ``repr`` shows."""
    try:
        return str(ast.literal_eval(shown))
    except (ValueError, SyntaxError):
        return shown.strip("'\"")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk from an exception of pika's connection workflow down to what caused it."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        link = pending.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        pending.extend(reversed(getattr(link, "exceptions", ())))
        pending.append(getattr(link, "exception", None))
        pending.extend(link.args)


def draw_connection_name() -> str:
    """A name for one connection, that says nothing to anybody but the reader of our log.

    Each connection has another: so a broker's list tells a connection that the broker has not given
    up yet from the one that took its place, and nobody sees that both belong to one chart.
    """
    return f"miros-{secrets.token_hex(4)}"


def connection_parameters(endpoint: Endpoint, connection_name: str) -> pika.URLParameters:
    """The parameters of one connection.

    Args:
        endpoint: the broker, the times and TLS.
        connection_name: what RabbitMQ shows as the connection's name, to everybody.
    """
    parameters = _parsed(endpoint.url)
    limits, tls = endpoint.limits, endpoint.tls
    if tls is not None:
        parameters.ssl_options = pika.SSLOptions(tls, server_hostname=endpoint.url.address.tls_name)
    parameters.heartbeat = endpoint.heartbeat_s
    parameters.connection_attempts = 1  # the link itself tries again
    parameters.socket_timeout = limits.connect_timeout_s
    parameters.stack_timeout = 2 * limits.connect_timeout_s
    parameters.client_properties = {
        "connection_name": connection_name,
        "product": "miros-rabbitmq",
    }
    return parameters


def _parsed(url: AmqpUrl) -> pika.URLParameters:
    """Read a URL.

    pika gets it written anew, from the parts that we have read: so it neither sees another host
    than we do, nor quotes a URL in an error.

    Raises:
        SettingsError: it is no AMQP URL, or pika refuses what follows its question mark.
    """
    parts = url.parts
    clean = amqp_url(parts.user, parts.password, parts.address, parts.vhost, tls=parts.tls)
    try:
        parameters = pika.URLParameters(clean + parts.query)
    except Exception:  # noqa: BLE001 - pika evaluates the query, so this may be anything
        parameters = None
    if parameters is None:  # here, so that the error does not carry pika's
        raise SettingsError(
            f"{url!r} is not an AMQP URL that pika can use: look at the parameters after its '?'"
        )
    parameters.host = parts.address.host  # with the zone of an IPv6 address unquoted
    return parameters


def quieten_pika() -> None:
    """Silence pika's own log lines, unless the program has set a level for them.

    The link reports each loss once, in words that help; pika reports every attempt several times.
    """
    pika_logger = logging.getLogger("pika")
    if pika_logger.level == logging.NOTSET:
        pika_logger.setLevel(logging.CRITICAL)
