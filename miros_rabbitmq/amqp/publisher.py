"""Publishers: a FIFO that any thread posts to, and a thread that sends what is in it to one broker.

When that goes out is told in `sender`. The broker confirms each message; what was not confirmed
when a connection is lost is sent again on the next, first and in order (see `delivery`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..delivery.outbox import DropReason
from ..exceptions import BackPressure, PayloadRefused
from ..wire.codec import Codec
from ..wire.envelope import TOKEN_SEPARATOR, Identity
from .link_state import SessionState
from .sender import Sender

_DEFAULT_TIMEOUT_S = 10.0
"""The longest wait of who names none; as of ``transmit``."""


Message = bytes | bytearray | memoryview | str
"""What a publisher sends as it is; text as UTF-8."""


class PublisherStats(NamedTuple):
    """The counters of one publisher; all count events, not AMQP messages."""

    state: SessionState
    waiting: int
    unconfirmed: int
    sent: int
    """Handed to the connection, each resend counted again."""
    messages: int
    """AMQP messages that held them."""
    confirmed: int
    """Taken over by the broker."""
    unrouted: int
    """Confirmed, but no queue was bound for them."""
    dropped: int
    """Given up because a limit was reached, for any of the reasons."""
    tempo_s: float
    """The present time between two beats."""
    drops: Mapping[DropReason, int]
    """The same by reason."""
    fault: str
    """Why it is not connected; empty while it is."""


class SimplePikaTopicPublisher(Sender):
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
        exchange_name: a durable topic exchange; declared where it does not exist.
        routing_key: the routing key of every message.
        separator: puts messages that wait together into one AMQP message, with this between
            them; `None` sends each on its own.
        durable: messages survive a restart of the broker.
        lossy: for traffic that may be lost but never waits: what was under way when a connection
            is lost is not sent again, and a full FIFO always drops its oldest.
        patient: for traffic that nobody waits for: it is sent once in the time of a beat, or when
            it fills a message, and so in fewer messages. The attribute of this name changes it.
        sender_id: an opaque id for the AMQP property ``app_id``.
        notice: called in the publisher's thread whenever the connection has come about, every
            ``limits.announce_s`` and at `send_notice`, for bytes to send besides what is posted;
            `None` for none. They never wait, are not counted, may be lost, and nobody needs to be
            bound for them.
        notice_key: the routing key of the notices; default ``routing_key``.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL.
        role: what the connection is for, as its name at the broker and the thread's.
        on_change: called when the state has changed, in the thread that changed it.
        reporting: at which levels an outage is logged.

    Raises:
        SettingsError: the URL is not one, AMQP has no such name of an exchange, routing key or id,
            or the separator is not bytes.
    """

    def post_fifo(self, message: Message, timeout: float | None = None) -> None:
        """Put a message into the FIFO.

        While the broker is connected and the FIFO full, waits for room. While it is absent,
        never waits: the oldest message is dropped and counted.

        Args:
            message: what to send; text is sent as UTF-8.
            timeout: the longest wait in seconds; default 10.

        Raises:
            PayloadRefused: it is neither bytes nor text; nothing was posted.
            BackPressure: there was no room in time.
            NetworkStopped: the publisher was stopped.
        """
        token = _bytes_of(message)
        deadline_s = _deadline_s(timeout)
        # One lock for both, so that no other thread takes the room in between.
        with self._changed:
            self._demand_room(deadline_s)
            self.post_token(token)

    def _demand_room(self, deadline_s: float) -> None:
        if not self.wait_for_room(deadline_s):
            raise BackPressure(f"{self.address} has taken nothing from a full FIFO for too long")

    @property
    def is_absent(self) -> bool:
        """The broker was never reached, or was lost ``limits.absent_after_s`` ago, or refuses us.

        One that was lost just now is expected back, and treated like a connected one.
        """
        return time.monotonic() >= self._absent_at_s

    @property
    def has_room(self) -> bool:
        """A post would have to wait for nothing."""
        # What is in the intake need not be counted: beyond it there is always room for one more.
        return self._lossy or not self._outbox.is_full or self.is_absent

    def wait_for_room(self, deadline_s: float) -> bool:
        """Wait until a post would neither have to wait nor push out another message.

        Does not wait where the broker is absent, nor for a lossy publisher.

        Args:
            deadline_s: a time of `time.monotonic`.

        Returns:
            whether there is room, or none is needed.
        """
        if self.has_room:
            return True
        with self._changed:
            while not (self.has_room or self._stop_asked):
                if not self._wait(deadline_s):
                    return False
            return True

    def _wait(self, deadline_s: float) -> bool:
        """Wait for a change, or for the broker to count as absent; False when time is up."""
        now_s = time.monotonic()
        if now_s >= deadline_s:
            return False
        self._changed.wait(max(0.0, min(deadline_s, self._absent_at_s) - now_s))
        return True

    @property
    def is_flushed(self) -> bool:
        """The broker has confirmed everything that was posted, or was never reached."""
        with self._lock:
            return self._outbox.is_empty or not self._was_ready

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until the broker has confirmed everything that was posted so far.

        What was dropped meanwhile counts as confirmed; `stats` has its number.

        Args:
            timeout: the longest wait in seconds; default 10.
            if_absent: wait even while the broker `is_absent`.

        Returns:
            whether it has, or was never reached, in that time.
        """
        deadline_s = _deadline_s(timeout)
        self.send_everything()
        with self._changed:
            self._take_in()
            posted = self._posted
            while self._settled < posted and self._was_ready and not self._stop_asked:
                if self.is_absent:
                    if not if_absent or deadline_s <= time.monotonic():
                        break
                    self._changed.wait(deadline_s - time.monotonic())
                elif not self._wait(deadline_s):
                    break
            return self._settled >= posted or not self._was_ready

    def stats(self) -> PublisherStats:
        """The counters, all of the same moment."""
        with self._changed:
            self._take_in()
            return PublisherStats(
                self._state,
                self._outbox.depth,
                self._outbox.unconfirmed,
                self._sent,
                self._messages,
                self._confirmed,
                self._unrouted,
                self._drops.total(),
                self._tempo.current_s,
                dict(self._drops),
                str(self._fault or ""),
            )

    def post_token(self, token: Message) -> None:
        """Put bytes into the FIFO without waiting for room; over its limit, the oldest go.

        Raises:
            PayloadRefused: they are neither bytes nor text; nothing was posted.
            NetworkStopped: the publisher was stopped, or belongs to the parent process.
        """
        if self.enqueue(_bytes_of(token)):
            self.attend()

    @property
    def _settled(self) -> int:
        """How many of those posted are confirmed, or given up."""
        return self._posted - self._outbox.depth - self._outbox.unconfirmed


class PikaTopicPublisher(SimplePikaTopicPublisher):
    """Publishes any value: serializes, numbers and encrypts it first.

    Its counterpart is `PikaTopicConsumer`. Every method may be called from any thread.

    Args:
        amqp_url: the broker.
        exchange_name: a durable topic exchange; also the network's name within each envelope.
        routing_key: the routing key of every message.
        codec: serializes and encrypts; the consumer needs one with the same network and key.
        name: the sender's name within each envelope.
        options: further arguments of `SimplePikaTopicPublisher`, but for ``separator``.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        codec: Codec,
        name: str,
        **options: Any,
    ) -> None:
        self._identity = Identity.new(name)
        options.setdefault("sender_id", self._identity.sender_id)
        super().__init__(amqp_url, exchange_name, routing_key, separator=TOKEN_SEPARATOR, **options)
        self._codec = codec
        # Held from numbering a message until the FIFO has it, so that numbers are in its order.
        self._order = threading.Lock()
        self._sequence = 0

    def post_fifo(self, message: Any, timeout: float | None = None) -> None:
        """Serialize, encrypt and post a value; as `SimplePikaTopicPublisher.post_fifo`.

        Raises:
            PayloadRefused: it cannot be serialized, or is too large.
            BackPressure: there was no room in time.
            NetworkStopped: the publisher was stopped.
        """
        deadline_s = _deadline_s(timeout)
        while True:
            # Waits without the lock, so that every thread waits its own time and no other's.
            self._demand_room(deadline_s)
            with self._order:
                if not self.has_room and not self._stop_asked:
                    continue  # another thread was faster
                number = self._sequence + 1
                identity = self._identity
                token = self._codec.encode(identity.name, identity.epoch, number, message)
                self.post_token(token)
                self._sequence = number
                return

    def _disown(self) -> None:
        super()._disown()
        # A second sender with the same numbers would be taken for the first.
        self._identity = Identity.new(self._identity.name)
        self._order = threading.Lock()
        self._sequence = 0


def _deadline_s(timeout: float | None) -> float:
    return time.monotonic() + (_DEFAULT_TIMEOUT_S if timeout is None else timeout)


def _bytes_of(message: Message) -> bytes:
    """The bytes to send: a copy of those that their owner may change meanwhile.

    Raises:
        PayloadRefused: there are none.
    """
    if isinstance(message, bytes):
        return message
    try:
        if isinstance(message, str):
            return message.encode()
        if isinstance(message, (bytearray, memoryview)):
            return bytes(message)
    except ValueError as error:  # half of a surrogate pair, or a view that was released
        raise PayloadRefused(f"the message cannot be made bytes: {error}") from error
    raise PayloadRefused(
        f"a message is bytes or text, not a {type(message).__name__}: encode it first, or use a "
        "PikaTopicPublisher, which takes any value"
    )
