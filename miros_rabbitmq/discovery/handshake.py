"""The AMQP 0-9-1 dialogue of a probe: is it RabbitMQ, and does it accept our login?

This is the client's side of section 2.2.4 of the specification, on streams that are already
connected: protocol header, ``Start``, ``StartOk``, ``Tune``, ``TuneOk``, ``Open``, ``OpenOk``. It
ends with ``Close`` and ``CloseOk``, as RabbitMQ logs a warning about every connection that is just
dropped. The password is in ``StartOk``: nothing secret is sent before the other side has said, in
``Start``, that it is RabbitMQ. ``pika`` encodes and decodes the frames. The other side may be any
program, so both the size and the time of what is read are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pika.frame
from pika import spec

from .. import faults
from ..closings import closed_by_broker
from ..exceptions import AccessRefused, BrokerError, VhostNotFound
from ..foreign import hidden, text_of
from ..greeting import GREETING_BYTES, expects_tls, sounds_like
from ..introduction import MOST_BYTES, Unfit, check_frame_max, check_start
from ..urls import Address
from .outcome import ProbeOutcome
from .search import Login

GOODBYE_TIMEOUT_S = 0.5
"""For the broker's answer to our ``Close``. By then the outcome is known."""

_MOST_HEARTBEATS = 10
"""The most that may come before an answer: the handshake is shorter than their interval."""

_REPLY_SUCCESS = 200  # AMQP 0-9-1, 1.2

_OUTCOMES = {
    AccessRefused: ProbeOutcome.ACCESS_REFUSED,
    VhostNotFound: ProbeOutcome.NO_SUCH_VHOST,
}
"""What a refusal means: RabbitMQ also uses their codes for limits, which pass."""

_NOWHERE = Address("")


class ProbeEnded(Exception):
    """Ends a probe early, with its outcome. Never leaves the module `probe`.

    Attributes:
        outcome: the outcome of the probe.
        detail: what was seen.
        fault: makes the error, if it is not the usual one of the outcome.
    """

    def __init__(
        self,
        outcome: ProbeOutcome,
        detail: str,
        fault: Callable[[Address], BrokerError] | None = None,
    ) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail
        self.fault = fault


async def shake_hands(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    login: Login,
    answer_timeout_s: float,
) -> str:
    """Log in to a broker and log out again.

    Args:
        reader: what the other side sends.
        writer: what we send.
        login: what the broker is asked to accept.
        answer_timeout_s: how long each answer may take, in seconds.

    Returns:
        the name and version that the broker reports.

    Raises:
        ProbeEnded: it is not RabbitMQ, or it refuses; the connection cannot be used any more.
        asyncio.TimeoutError: an answer took longer than ``answer_timeout_s``.
        OSError, asyncio.IncompleteReadError: the other side has closed the connection.
    """

    async def answer(most_heartbeats: int = _MOST_HEARTBEATS) -> Any:
        return await asyncio.wait_for(_read_method(reader, most_heartbeats), answer_timeout_s)

    writer.write(pika.frame.ProtocolHeader().marshal())
    name = _check_start(await answer(0), login)

    _write(
        writer,
        spec.Connection.StartOk(
            client_properties={
                "product": "miros-rabbitmq",
                "information": "looks which brokers can be used, and goes",
                # Without it, RabbitMQ closes the connection on a wrong password and says nothing.
                "capabilities": {"authentication_failure_close": True},
            },
            mechanism="PLAIN",
            response=f"\0{login.user}\0{login.password}",
        ),
    )
    try:
        tune = await answer()
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        # Section 2.2.4 allows that to a broker without authentication_failure_close.
        raise ProbeEnded(
            ProbeOutcome.ACCESS_REFUSED, "it closed the connection when it got the password"
        ) from error
    await _expect(spec.Connection.Tune, tune, writer, login)
    with _fit():
        check_frame_max(tune.frame_max)

    _write(writer, spec.Connection.TuneOk(tune.channel_max, tune.frame_max, heartbeat=0))
    _write(writer, spec.Connection.Open(virtual_host=login.vhost))
    await _expect(spec.Connection.OpenOk, await answer(), writer, login)

    _write(
        writer,
        spec.Connection.Close(_REPLY_SUCCESS, "nothing more to ask", class_id=0, method_id=0),
    )
    # It has accepted the login, which was the question. What comes now does not matter.
    with contextlib.suppress(
        asyncio.TimeoutError, asyncio.IncompleteReadError, OSError, ProbeEnded
    ):
        await asyncio.wait_for(_read_method(reader, _MOST_HEARTBEATS), GOODBYE_TIMEOUT_S)
    return name


def _check_start(method: Any, login: Login) -> str:
    """Return name and version from RabbitMQ's ``Start``.

    Raises:
        ProbeEnded: the method is none that RabbitMQ would begin with.
    """
    if not isinstance(method, spec.Connection.Start):
        raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, f"it began with {_name_of(method)}")
    secret = hidden(login.password, login.user)
    with _fit():
        return check_start(method.server_properties, method.mechanisms, secret)


@contextlib.contextmanager
def _fit() -> Iterator[None]:
    """End the probe if something is unfit."""
    try:
        yield
    except Unfit as error:
        outcome = _OUTCOMES.get(type(error.fault(_NOWHERE)), ProbeOutcome.NOT_RABBITMQ)
        raise ProbeEnded(outcome, error.detail, error.fault) from error


async def _expect(kind: type[Any], method: Any, writer: asyncio.StreamWriter, login: Login) -> None:
    """Check that a method is of one kind, and answer it if it is the broker's ``Close``.

    Raises:
        ProbeEnded: it is of another kind.
    """
    if isinstance(method, kind):
        return
    if not isinstance(method, spec.Connection.Close):
        raise ProbeEnded(ProbeOutcome.CLOSED, f"it answered unexpectedly with {_name_of(method)}")
    _write(writer, spec.Connection.CloseOk())
    await asyncio.wait_for(writer.drain(), GOODBYE_TIMEOUT_S)
    text = text_of(method.reply_text)
    fault = partial(
        closed_by_broker,
        code=method.reply_code,
        text=text,
        user=login.user,
        vhost=login.vhost,
        secret=login.password,
    )
    outcome = _OUTCOMES.get(type(fault(_NOWHERE)), ProbeOutcome.CLOSED)
    raise ProbeEnded(outcome, text, fault)


def _write(writer: asyncio.StreamWriter, method: Any) -> None:
    writer.write(pika.frame.Method(0, method).marshal())


async def _read_method(reader: asyncio.StreamReader, most_heartbeats: int) -> Any:
    """Read the next method on channel 0, skipping so many heartbeats at most."""
    for _ in range(most_heartbeats + 1):
        try:
            head = await reader.readexactly(spec.FRAME_HEADER_SIZE)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise
            head = error.partial
        if expects_tls(head):
            raise ProbeEnded(
                ProbeOutcome.TLS_FAILED, "the port expects TLS; give tls=", faults.wants_tls
            )
        if len(head) < spec.FRAME_HEADER_SIZE:
            raise ProbeEnded(
                ProbeOutcome.NOT_RABBITMQ, "it sent a few bytes and closed the connection"
            )
        if head[0] not in (spec.FRAME_METHOD, spec.FRAME_HEARTBEAT):
            raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, sounds_like(head + await _rest(reader)))
        _, channel, size = struct.unpack(">BHL", head)
        if channel != 0:
            raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, "what it sends is not AMQP")
        if size > MOST_BYTES:
            raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, f"its frame of {size} bytes is too large")
        body = await reader.readexactly(size + spec.FRAME_END_SIZE)
        try:
            _, frame = pika.frame.decode_frame(head + body)
        except Exception as error:  # malformed bytes can make a decoder raise anything
            raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, "its frame cannot be decoded") from error
        if isinstance(frame, pika.frame.Method):
            return frame.method
    raise ProbeEnded(ProbeOutcome.NOT_RABBITMQ, "heartbeats come, and no answer")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What else has come, for the words that say what kind of program it is."""
    with contextlib.suppress(asyncio.TimeoutError, OSError):
        return await asyncio.wait_for(reader.read(GREETING_BYTES), GOODBYE_TIMEOUT_S / 10)
    return b""


def _name_of(method: Any) -> str:
    return str(getattr(method, "NAME", type(method).__name__))
