"""The boundary to pika: the parameters of a connection, and pika's exceptions in our words."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Any

import pika
import pika.channel
import pika.connection
import pika.exceptions
import pika.frame
import pika.spec

from . import faults
from .exceptions import BrokerError, SettingsError
from .limits import Limits
from .urls import AmqpUrl

try:
    import fcntl
    import termios

    # The same number as SIOCOUTQ; elsewhere than on Linux it says something else of sockets.
    _TIOCOUTQ = termios.TIOCOUTQ if sys.platform == "linux" else None
except ImportError:  # not on Windows
    _TIOCOUTQ = None


def translate(
    error: BaseException, url: AmqpUrl, parameters: pika.connection.Parameters
) -> BrokerError:
    """Word an exception of pika, or of the socket under it, as one of ours.

    Args:
        error: what pika raised or handed to a callback.
        url: the broker it happened with.
        parameters: those of the connection.
    """
    address = url.address
    user, vhost = parameters.credentials.username, parameters.virtual_host
    for link in _chain(error):
        if isinstance(link, pika.exceptions.ChannelClosedByBroker) and link.reply_code == 403:
            return faults.permission_refused(address, user, link.reply_text)
        text = str(link)
        # pika only guesses where the broker did not say why; a broker that goes down is no refusal.
        if isinstance(link, pika.exceptions.ProbableAuthenticationError) and "403" in text:
            return faults.access_refused(address, user)
        if isinstance(link, pika.exceptions.ProbableAccessDeniedError) and "530" in text:
            return faults.vhost_not_found(address, vhost, user)
        if isinstance(link, pika.exceptions.IncompatibleProtocolError):
            if parameters.ssl_options is not None:
                # In TLS 1.3 a client learns only after the handshake that it was not let in.
                detail = "it hung up right after it: does it demand a certificate of this node?"
                return faults.tls_failed(address, detail)
            return faults.not_rabbitmq(address, "it does not speak AMQP 0-9-1")
        if isinstance(link, socket.gaierror):
            return faults.unknown_host(address, str(link.strerror))
        if isinstance(link, ConnectionRefusedError):
            return faults.nothing_listens(address)
        if isinstance(link, ssl.SSLError):
            return faults.tls_failed(address, str(link))
    last = list(_chain(error))[-1]
    return faults.no_answer(address, f"{type(last).__name__}: {last}".removesuffix(": "))


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


def connection_parameters(
    url: AmqpUrl, role: str, limits: Limits, tls: ssl.SSLContext | None
) -> pika.URLParameters:
    """The parameters of a session's connections.

    Args:
        url: the broker.
        role: what the connection is for; RabbitMQ shows it as the connection's name.
        limits: the times.
        tls: the context of an ``amqps`` URL.

    Raises:
        SettingsError: the URL is not one of AMQP.
    """
    if not url.startswith(("amqp://", "amqps://")):
        raise SettingsError(f"{url!r} is not an AMQP URL: it begins with amqp:// or amqps://")
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, AttributeError):
        # Neither the text of the error nor the error itself: it may quote the password.
        raise SettingsError(
            f"{url!r} is not an AMQP URL: is the port a number, and is everything before it quoted "
            "(urllib.parse.quote)?"
        ) from None
    if tls is not None:
        parameters.ssl_options = pika.SSLOptions(tls, server_hostname=parameters.host)
    parameters.heartbeat = limits.heartbeat_s
    parameters.connection_attempts = 1  # the session itself tries again
    parameters.socket_timeout = limits.connect_timeout_s
    parameters.stack_timeout = 2 * limits.connect_timeout_s
    parameters.client_properties = {
        "connection_name": role,
        "product": "miros-rabbitmq",
    }
    return parameters


def unsent_bytes(connection: Any) -> int:
    """What a connection has been given to send and the other host has not acknowledged, in bytes.

    pika's own buffer, and on Linux the kernel's too (``SIOCOUTQ`` of tcp(7)).
    """
    # pika has no public way to either.
    transport = getattr(connection, "_transport", None)
    unsent = 0
    with contextlib.suppress(AttributeError, OSError, ValueError):
        unsent = int(transport.get_write_buffer_size())  # type: ignore[union-attr]
        if _TIOCOUTQ is not None:
            answer = fcntl.ioctl(transport._sock, _TIOCOUTQ, bytes(4))  # type: ignore[union-attr]
            unsent += int.from_bytes(answer, sys.byteorder)
    return unsent


_RECEIVE_BYTES = 64 * 1024
"""Read from a socket at once. pika's 4 KiB make some dozen calls of one message, and at each of
them a busy chart may take the interpreter for a while."""

_BODY_SIZE = slice(11, 19)
"""Where a marshalled content header has the size of the body (AMQP 0-9-1, 2.3.5.2): after the type,
channel and size of the frame, the class and the weight."""


def read_more_at_once(connection: Any) -> None:
    """Have a new connection read as much as a whole batch in one call."""
    with contextlib.suppress(AttributeError):  # pika has no public way
        connection._transport._MAX_RECV_BYTES = _RECEIVE_BYTES


class Publishing:
    """``basic.publish`` of one channel: frames that differ by the body alone are made once.

    All of it with the lock of the session's loop, or in its thread.

    Args:
        channel: an open channel.
        exchange: the exchange to publish to.
        routing_key: the routing key of every message.
        properties: those of every message.
        mandatory: have the broker return what no queue is bound for.
    """

    def __init__(
        self,
        channel: pika.channel.Channel,
        exchange: str,
        routing_key: str,
        properties: pika.BasicProperties,
        *,
        mandatory: bool,
    ) -> None:
        number = self._number = channel.channel_number
        method = pika.spec.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        header = pika.frame.Header(number, 0, properties).marshal()
        self._head = pika.frame.Method(number, method).marshal() + header[: _BODY_SIZE.start]
        self._tail = header[_BODY_SIZE.stop :]
        self._connection: Any = channel.connection
        overhead = pika.spec.FRAME_HEADER_SIZE + pika.spec.FRAME_END_SIZE
        self._largest = self._connection.params.frame_max - overhead

    def publish(self, body: bytes) -> bool:
        """Write one message, as much of it as the socket takes now; pika writes the rest.

        Returns:
            whether the socket took all of it. Where it did not, and this is not the thread of the
            loop, that has to be woken.
        """
        parts = [self._head, len(body).to_bytes(8, "big"), self._tail]
        parts.extend(
            pika.frame.Body(self._number, body[at : at + self._largest]).marshal()
            for at in range(0, len(body), self._largest)
        )
        return write(self._connection, b"".join(parts))


def write(connection: Any, data: bytes) -> bool:
    """Write whole frames to a connection: at once, as far as the socket takes them.

    pika itself waits for the poller to say that the socket can be written, and takes a system call
    for each frame.

    Returns:
        whether the socket took all; otherwise pika has the rest, and writes it when it can.
    """
    transport = connection._transport
    # What pika still has goes first.
    if transport.get_write_buffer_size() == 0:
        taken = 0
        # Full, or broken: pika finds out which when it tries the same bytes again.
        with contextlib.suppress(BlockingIOError, ConnectionError, ssl.SSLError):
            taken = transport._sock.send(data)
        if taken == len(data):
            return True
        data = data[taken:]
    connection._output_marshaled_frames([data])
    return False


def quieten_pika() -> None:
    """Keep pika's own log lines back, unless the program has set a level for them.

    The session reports each loss once and in words; pika reports every attempt several times.
    """
    pika_logger = logging.getLogger("pika")
    if pika_logger.level == logging.NOTSET:
        pika_logger.setLevel(logging.CRITICAL)
