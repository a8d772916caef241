"""The public publishers, which work without a chart: a FIFO that any thread posts to, and a thread.

A `Sender` sends what is in the FIFO.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

from ..exceptions import BackPressure, PayloadRefused, SettingsError
from ..limits import Limits
from ..process import Stage, disown_in_child
from ..turns import MOST_LEFT, Turns
from ..urls import check_short_text
from ..wire.codec import Codec
from ..wire.envelope import MOST_NAME, Kind, shape
from ..wire.sealer import Heading, Left, Record, Sealer
from ..wording import a_value_of
from .link import Role
from .sender import PublisherStats, Sender, Traffic
from .standalone import OwnThread, Standalone, check_codec, endpoint_of

_DEFAULT_TIMEOUT_S = 10.0
"""Default timeout when the caller gives none; the same as for ``transmit``."""

Message = bytes | bytearray | memoryview | str
"""What a publisher sends as it is; text as UTF-8."""


class SimplePikaTopicPublisher(Standalone):
    """Publishes bytes or text to a topic exchange of one broker.

    Use::

        publisher = SimplePikaTopicPublisher(url, "my.exchange", "my.key")
        publisher.start_thread()
        publisher.post_fifo(b"hello")
        publisher.flush(timeout=5)
        publisher.stop_thread()

    Every method may be called from any thread.

    Args:
        amqp_url: the broker, as in ``amqp://user:password@host:5672/%2F``.
        exchange_name: a durable topic exchange; declared if it does not exist.
        routing_key: the routing key of messages that name no other.
        durable: whether messages survive a restart of the broker.
        lossy: for traffic that may be lost but must never wait: messages under way when a
            connection is lost are not sent again, and a full FIFO always drops its oldest.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL. Default: what the environment describes (see
            `tls_from_environment`), or else the authorities of this machine.
        role: what the connection is for; a part of the thread's name and of log lines.
        on_change: called after the state has changed, in a thread for callbacks; it may take its
            time. Exceptions that it raises are logged.

    Raises:
        SettingsError: the URL is not an AMQP URL, AMQP does not allow the exchange's name or the
            routing key.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        durable: bool = True,
        lossy: bool = False,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros publisher",
        on_change: Callable[[], object] | None = None,
    ) -> None:
        endpoint = endpoint_of(amqp_url, limits, tls)
        life = OwnThread(f"{role} at {endpoint.url.address}", on_change)
        traffic = Traffic(exchange_name, durable=durable, lossy=lossy)
        self._heading = _heading(routing_key)
        self._sender = Sender(endpoint, Role(role), traffic, life.reactor, life.note_change)
        life.own(self._sender.link)
        super().__init__(life)
        self.exchange_name = exchange_name
        self.routing_key = routing_key

    def post_fifo(
        self, message: Message, timeout: float | None = None, *, routing_key: str | None = None
    ) -> None:
        """Put a message into the FIFO.

        If the FIFO is full, this waits for room while the broker is connected. While the broker is
        absent, it never waits: the oldest message is dropped and counted.

        Args:
            message: what to send; text is sent as UTF-8.
            timeout: the longest wait in seconds; default 10.
            routing_key: another than the publisher's.

        Raises:
            SettingsError: AMQP does not allow the routing key.
            PayloadRefused: the message is neither bytes nor text; nothing was posted.
            BackPressure: there was no room in time.
            NetworkStopped: the publisher was stopped, or belongs to the parent process.
        """
        heading = self._heading if routing_key is None else _heading(routing_key)
        record = Record(heading, bytes_of(message))
        if not self._sender.post_in_order(record, _deadline_s(timeout)):
            raise _back_pressure(self._sender)

    def publish_aside(self, routing_key: str, message: Message, *, expires_s: float) -> None:
        """Publish a message without the FIFO and with another key, if the broker takes it now.

        The message never waits, is not counted and may be lost, and no queue needs to be bound for
        it. It is meant for messages that are repeated anyway, such as a sign of life.

        Args:
            routing_key: its routing key.
            message: what to send; text is sent as UTF-8.
            expires_s: seconds after which the broker may drop it.

        Raises:
            PayloadRefused: the message is neither bytes nor text.
        """
        self._sender.publish_aside(bytes_of(message), routing_key, expires_s)

    @property
    def is_absent(self) -> bool:
        """Whether the broker was never reached, is lost for ``absent_after_s``, or refuses us.

        A broker that was lost only just now is expected back, and treated like a connected one.
        """
        return self._sender.is_absent

    @property
    def has_room(self) -> bool:
        """Whether a post would not have to wait."""
        return self._sender.has_room

    def wait_for_room(self, deadline_s: float) -> bool:
        """Wait until a post would neither have to wait nor push out another message.

        Does not wait if the broker is absent, or for a lossy publisher.

        Args:
            deadline_s: a time of `time.monotonic`.

        Returns:
            whether there is room, or none is needed.
        """
        return self._sender.wait_for_room(deadline_s)

    @property
    def is_flushed(self) -> bool:
        """Whether the broker has confirmed everything that was posted, or cannot be reached."""
        return self._sender.is_flushed

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until the broker has confirmed everything that was posted so far.

        Messages that were dropped meanwhile count as confirmed; `stats` has their number.

        Args:
            timeout: the longest wait in seconds; default 10.
            if_absent: whether to wait even while the broker `is_absent`.

        Returns:
            whether the broker has confirmed everything in time, or cannot be reached: the first
            attempt has failed, and none has succeeded since.
        """
        timeout_s = _DEFAULT_TIMEOUT_S if timeout is None else timeout
        return self._sender.flush(timeout_s, if_absent=if_absent)

    def stats(self) -> PublisherStats:
        """The counters, all of the same moment."""
        return self._sender.stats()


class PikaTopicPublisher(Standalone):
    """Publishes any value: serializes, numbers and encrypts it first.

    Its counterpart is `PikaTopicConsumer`. Every method may be called from any thread. What is sent
    by a routing key is numbered, which takes half a kilobyte for each until the publisher is gone:
    do not put the time or a serial number into routing keys.

    Args:
        amqp_url: the broker.
        exchange_name: a durable topic exchange. On an exchange of the nets, values are what these
            carry: on ``miros.mesh`` ``(signal name, payload)``, for snoops a text.
        routing_key: the routing key of values that name no other.
        codec: serializes, and has the keys; the consumer needs one with the same key.
        name: the sender's name, as receivers are told it; 1 to 255 characters.
        durable: whether messages survive a restart of the broker.
        lossy: for traffic that may be lost but must never wait; see `SimplePikaTopicPublisher`.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL. Default: what the environment describes (see
            `tls_from_environment`), or else the authorities of this machine.
        role: what the connection is for; becomes a part of the thread's name.
        on_change: called after the state has changed, in a thread for callbacks; it may take its
            time. Exceptions that it raises are logged.

    Raises:
        SettingsError: the URL is not an AMQP URL, AMQP does not allow the exchange's name or the
            routing key, or the sender's name is empty or too long.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        codec: Codec,
        name: str,
        durable: bool = True,
        lossy: bool = False,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros publisher",
        on_change: Callable[[], object] | None = None,
    ) -> None:
        check_short_text("routing_key", routing_key)
        check_codec(codec)
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
            # Otherwise every receiver would reject every value.
            raise SettingsError(f"name must be a text of 1 to {MOST_NAME} characters, not {name!r}")
        endpoint = endpoint_of(amqp_url, limits, tls)
        life = OwnThread(f"{role} at {endpoint.url.address}", on_change)
        traffic = Traffic(exchange_name, joined=True, durable=durable, lossy=lossy)
        self._sender = Sender(endpoint, Role(role), traffic, life.reactor, life.note_change)
        life.own(self._sender.link)
        super().__init__(life)
        self.exchange_name = exchange_name
        self.routing_key = routing_key
        self._codec = codec
        self._kind = Kind.on(exchange_name)
        self._sealer = Sealer(codec, exchange_name, name)
        # Held from numbering a value until the FIFO has it, so that numbers are in its order.
        # What the handler of a signal posts meanwhile is left to the holder.
        self._order: Turns[Left] = Turns(self._post_left)
        disown_in_child(self, Stage.NETWORKS)

    def post_fifo(
        self, message: Any, timeout: float | None = None, *, routing_key: str | None = None
    ) -> None:
        """Serialize, encrypt and post a value; otherwise as `SimplePikaTopicPublisher.post_fifo`.

        Args:
            message: plain data, or what the codec's serializer takes.
            timeout: the longest wait for room in seconds; default 10.
            routing_key: another than the publisher's.

        Raises:
            SettingsError: AMQP does not allow the routing key.
            PayloadRefused: it cannot be serialized, is too large, or is not what the exchange
                carries.
            BackPressure: there was no room in time.
            NetworkStopped: the publisher was stopped.
            OutOfResources: no memory is left.
        """
        if routing_key is None:
            routing_key = self.routing_key
        else:
            check_short_text("routing_key", routing_key)
        if not self._kind.fits(message):
            raise PayloadRefused(
                f"the value is {shape(message)}, and {self.exchange_name} carries "
                f"{self._kind.wanted}"
            )
        plain = self._codec.serialize(message)
        sender, sealer, order = self._sender, self._sealer, self._order
        deadline_s = _deadline_s(timeout)
        if order.is_interrupted():
            if not self._leave(plain, routing_key):
                raise _back_pressure(sender)
            return
        while True:
            # Wait without the lock, so that no thread waits for another thread's timeout.
            if not sender.wait_for_room(deadline_s):
                raise _back_pressure(sender)
            try:
                if not order.begin():
                    if self._leave(plain, routing_key):
                        return
                    if time.monotonic() >= deadline_s:
                        raise _back_pressure(sender)
                    continue
                if order.left:
                    order.catch_up()
                if not sender.has_room and not sender.link.is_stopping:
                    continue  # another thread was faster
                record = sealer.commit(sealer.seal(self._kind, plain, routing_key))
                if record is None:
                    continue  # the process was forked meanwhile, and this is the child
                has_turn = sender.enqueue(record)
            finally:
                try:
                    if order.left:
                        order.catch_up()
                finally:
                    try:  # noqa: SIM105 - this is passed for each value
                        order.lock.release()
                    except RuntimeError:
                        pass  # it could not be had
            if order.left:
                order.catch_up_if_free()
            if has_turn:
                sender.attend()
            return

    def _leave(self, plain: bytes, routing_key: str) -> bool:
        """Have a value posted by whoever has the lock; tells whether there is room for it."""
        sender = self._sender
        sender.check_open()
        if not sender.has_room or len(self._order.left) >= MOST_LEFT:
            return False
        self._order.leave(Left(self._sealer.seal(self._kind, plain, routing_key)))
        return True

    def _post_left(self, left: Left) -> None:
        """Post what was left. Called with the lock."""
        if left.record is None:
            left.record = self._sealer.commit(left.draft)
        if left.record is not None:  # not in a forked child
            self._sender.enqueue_over(left.record)

    @property
    def is_absent(self) -> bool:
        """See `SimplePikaTopicPublisher.is_absent`."""
        return self._sender.is_absent

    @property
    def has_room(self) -> bool:
        """Whether a post would not have to wait."""
        return self._sender.has_room

    @property
    def is_flushed(self) -> bool:
        """Whether the broker has confirmed everything that was posted, or cannot be reached."""
        return self._sender.is_flushed

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until the broker has confirmed everything; see `SimplePikaTopicPublisher.flush`.

        Args:
            timeout: the longest wait in seconds; default 10.
            if_absent: whether to wait even while the broker `is_absent`.

        Returns:
            whether it has in time, or cannot be reached.
        """
        timeout_s = _DEFAULT_TIMEOUT_S if timeout is None else timeout
        return self._sender.flush(timeout_s, if_absent=if_absent)

    def stats(self) -> PublisherStats:
        """The counters, all of the same moment."""
        return self._sender.stats()

    def disown(self) -> None:
        """Make a new lock in a forked child, as another thread may have held the old one."""
        self._order.disown()


def _heading(routing_key: str) -> Heading:
    check_short_text("routing_key", routing_key)
    return Heading(routing_key, b"")


def _back_pressure(sender: Sender) -> BackPressure:
    return BackPressure(f"{sender.address} has taken nothing from a full FIFO for too long")


def _deadline_s(timeout: float | None) -> float:
    return time.monotonic() + (_DEFAULT_TIMEOUT_S if timeout is None else timeout)


def bytes_of(message: Message) -> bytes:
    """The bytes to send: a copy if their owner may change them meanwhile.

    Raises:
        PayloadRefused: the message is neither bytes nor text, or cannot be turned into bytes.
    """
    if isinstance(message, bytes):
        return message
    try:
        if isinstance(message, str):
            return message.encode()
        if isinstance(message, (bytearray, memoryview)):
            return bytes(message)
    except ValueError as error:  # half of a surrogate pair, or a view that was released
        raise PayloadRefused(f"the message cannot be turned into bytes: {error}") from error
    raise PayloadRefused(
        f"a message is bytes or text, not {a_value_of(message)}: encode it first, or use a "
        "PikaTopicPublisher, which takes any value"
    )
