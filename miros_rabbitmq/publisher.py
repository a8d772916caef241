"""Publishers: a FIFO that any thread posts to, and a thread that sends what is in it to one broker.

A post to an idle publisher is sent at once, by the thread that posts: a thread that has to be woken
first would take several times as long. Once the broker has more to do, what has come together goes
out together, as soon as the broker has confirmed what it has (see `Outbox.is_due`); but it never
waits longer than for the next beat of a tempo that a PID sets (see `pacing`). The broker confirms
each message; what was not confirmed when a connection is lost is sent again on the next, first and
in order (see `delivery`).
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pika
import pika.channel
import pika.spec

from .amqp import Publishing
from .codec import TOKEN_SEPARATOR, Codec
from .delivery import DropReason, Outbox
from .exceptions import BackPressure, NetworkStopped, PayloadRefused, SettingsError
from .identity import Identity
from .life import SessionState
from .limits import Limits
from .pacing import Tempo
from .session import WARNINGS, Reporting, Session
from .settings import check_short_text
from .topology import declare_exchange

logger = logging.getLogger(__name__)

_DEFAULT_TIMEOUT_S = 10.0
"""The longest wait of who names none; as of ``transmit``."""

_PERSISTENT, _TRANSIENT = 2, 1
_LONGEST_EXPIRATION_MS = 24 * 60 * 60 * 1000


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


class SimplePikaTopicPublisher(Session):
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
        patient: for traffic that nobody waits for: it is sent at the beats of the tempo alone, the
            first too, and so in fewer messages. The attribute of this name changes it.
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

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        separator: bytes | None = None,
        durable: bool = True,
        lossy: bool = False,
        patient: bool = False,
        sender_id: str | None = None,
        notice: Callable[[], bytes | None] | None = None,
        notice_key: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros publisher",
        on_change: Callable[[], None] | None = None,
        reporting: Reporting = WARNINGS,
    ) -> None:
        # What pika cannot write, it would refuse in the publisher's thread, again and again.
        check_short_text("exchange_name", exchange_name)
        check_short_text("routing_key", routing_key)
        if sender_id is not None:
            check_short_text("sender_id", sender_id)
        if separator is not None and not isinstance(separator, bytes):
            raise SettingsError(f"separator is bytes or None, not a {type(separator).__name__}")
        super().__init__(
            amqp_url,
            role=role,
            limits=limits,
            tls=tls,
            on_change=on_change,
            reporting=reporting,
        )
        self.exchange_name = exchange_name
        self.routing_key = routing_key
        limits = self.limits
        self._separator = separator
        self._lossy = lossy
        self.patient = patient
        self._outbox = self._new_outbox()
        self._properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=_PERSISTENT if durable and not lossy else _TRANSIENT,
        )
        self._notice = notice
        self._notice_properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=_TRANSIENT,
            # The next one says it anew: of a receiver that takes nothing, one waits at most.
            expiration=str(min(int(limits.announce_s * 1000), _LONGEST_EXPIRATION_MS)),
        )
        self._notice_key = routing_key if notice_key is None else notice_key
        self._notice_timer: Any = None
        # Of the channel in use; with the lock of the loop.
        self._publishing: Publishing | None = None
        # The publisher's thread was woken and has not looked yet; a beat will make it look.
        self._wake_pending = self._beat_pending = False
        self._was_ready = False
        # When a broker that does not come back counts as absent, by the monotonic clock.
        self._absent_at_s = 0.0
        self._posted = 0
        self._sent = self._messages = self._confirmed = self._unrouted = 0
        self._drops: Counter[DropReason] = Counter()
        self._dropped_in_burst = 0
        self._nacks = 0
        self._tempo = Tempo(limits.tempo_fast_s, limits.tempo_slow_s, limits.batch_events)
        self._beat_timer: Any = None

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
        return self._outbox.is_empty or not self._was_ready

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until the broker has confirmed everything that was posted so far.

        Args:
            timeout: the longest wait in seconds; default 10.
            if_absent: wait even while the broker `is_absent`.

        Returns:
            whether it has, or was never reached, in that time.
        """
        deadline_s = _deadline_s(timeout)
        self._call_soon(lambda: self._send(everything=True))  # nothing waits for a beat now
        with self._changed:
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

    def enqueue(self, token: bytes) -> bool:
        """`post_token`, in two steps: the second is `attend`.

        Returns:
            whether that has to be called; otherwise the publisher's thread looks by itself.
        """
        with self._changed:
            if self._stop_asked:
                why = "belongs to the parent process" if self._is_forked else "was stopped"
                raise NetworkStopped(f"the publisher to {self.address} {why}")
            self._posted += 1
            outbox = self._outbox
            dropped = outbox.post(token)
            if dropped:
                reason = DropReason.CONNECTION if self._lossy else DropReason.BACKLOG
                self._note_drop(reason, dropped)
            if self._state is not SessionState.READY or self._wake_pending:
                return False
            if not self._beat_pending:
                return outbox.has_window  # without one, the next confirm makes it look
            return outbox.is_due and not self.patient

    def attend(self) -> None:
        """Send what is due from the calling thread; where only the publisher's can, wake that."""
        if not self._send_from_here():
            self.wake()

    def wake(self, others: Sequence[SimplePikaTopicPublisher] = ()) -> None:
        """Have the publisher's thread look what there is to send.

        Args:
            others: further publishers to wake, which that thread does: it takes some microseconds
                for each, and the caller may have something to wait for.
        """
        with self._changed:
            pending, self._wake_pending = self._wake_pending, True
        if others or not pending:
            self._call_soon(lambda: self._on_wake(others))

    def send_notice(self) -> None:
        """Have the publisher's thread send a notice now."""
        self._call_soon(self._renew_notice)

    # Any thread.

    def _send_from_here(self) -> bool:
        """Send what is due, unless the publisher's thread is at it; whether nothing is left."""
        loop = self._ioloop
        if self.patient or loop is None or not loop.lock.acquire(blocking=False):
            return False
        try:
            if self._state is not SessionState.READY or not self._outbox.is_due:
                return False
            return self._send_next() and not self._outbox.depth
        except Exception:
            logger.exception("%s: unexpected error; connecting again", self._name)
            self._call_soon(self._abandon_connection)
            return True
        finally:
            loop.lock.release()

    # The session's thread.

    def _set_up(self, channel: pika.channel.Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(
                channel,
                lambda: channel.confirm_delivery(self._on_confirm, lambda _: self._set_up_done()),
            ),
        )

    def _probe(self, channel: pika.channel.Channel) -> None:
        declare_exchange(channel, self.exchange_name, self._answered)

    def _on_ready(self) -> None:
        assert self._channel is not None
        self._publishing = Publishing(
            self._channel, self.exchange_name, self.routing_key, self._properties, mandatory=True
        )
        with self._changed:
            self._was_ready = True
            self._absent_at_s = math.inf
            dropped, self._dropped_in_burst = self._dropped_in_burst, 0
        if dropped and not self._lossy:
            logger.warning("%s: %d events were dropped meanwhile", self._name, dropped)
        self._send(everything=True)
        self._renew_notice()

    def _on_lost(self) -> None:
        self._stop_beating()
        self._stop_noticing()
        self._publishing = None
        with self._changed:
            self._wake_pending = self._beat_pending = False
            self._drops[DropReason.CONNECTION] += self._outbox.connection_lost()
            if self._state is SessionState.REFUSED:
                self._absent_at_s = 0.0
            elif self._absent_at_s == math.inf:
                self._absent_at_s = time.monotonic() + self.limits.absent_after_s
            self._changed.notify_all()

    def _on_wake(self, others: Sequence[SimplePikaTopicPublisher]) -> None:
        for other in others:
            other.wake()
        with self._changed:
            self._wake_pending = False
        self._send()

    def _on_beat(self) -> None:
        self._beat_timer = None
        self._send(everything=True)

    def _send(self, *, everything: bool = False) -> None:
        """Send what is due, or everything that waits, and set the time of the next beat."""
        if self._state is not SessionState.READY:
            return
        outbox = self._outbox
        depth = outbox.depth
        has_sent = False
        # Bounded, where each event is a message of its own: there is more to do in this thread.
        for _ in range(self.limits.batch_events):
            if not (everything or (outbox.is_due and not self.patient)) or not self._send_next():
                break
            has_sent = True
        if has_sent or self._beat_timer is None:
            self._plan_beat(depth)

    def _plan_beat(self, depth: int) -> None:
        """Set the time of the next beat, by the depth before this one."""
        self._stop_beating()
        tempo_s = self._tempo.beat(depth, time.monotonic())
        outbox = self._outbox
        with self._changed:
            # After several at once more are expected, so that nobody has to wake this thread.
            goes_on = outbox.depth > 0 or (depth > 0 and not outbox.is_calm)
            self._beat_pending = goes_on and outbox.has_window
            if self._beat_pending:
                self._beat_timer = self._call_later(tempo_s, self._on_beat)

    def _stop_beating(self) -> None:
        if self._beat_timer is not None:
            self._cancel_call(self._beat_timer)
            self._beat_timer = None

    def _renew_notice(self) -> None:
        self._stop_noticing()
        channel = self._channel
        if self._notice is None or channel is None or not channel.is_open:
            return
        self._notice_timer = self._call_later(self.limits.announce_s, self._renew_notice)
        notice = self._notice() if self._state is SessionState.READY else None
        if notice is None:
            return
        with self._changed:
            self._outbox.skip_tag()
        channel.basic_publish(self.exchange_name, self._notice_key, notice, self._notice_properties)

    def _stop_noticing(self) -> None:
        if self._notice_timer is not None:
            self._cancel_call(self._notice_timer)
            self._notice_timer = None

    def _send_next(self) -> bool:
        """Send one message, with the lock of the loop; whether it went as far as the socket."""
        channel, publishing = self._channel, self._publishing
        if channel is None or publishing is None or not channel.is_open:
            return False
        with self._changed:
            batch = self._outbox.take()
            if batch is None:
                return False
            self._sent += len(batch.tokens)
            self._messages += 1
        return publishing.publish((self._separator or b"").join(batch.tokens))

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        self._watchdog.note_progress(time.monotonic())
        refused = isinstance(method, pika.spec.Basic.Nack)
        if refused and self._nacks < self.limits.nack_attempts:
            # The broker could not take it over. Sending it alone again would put it behind others.
            if self._channel is not None and self._channel.is_open:
                self._nacks += 1
                self._reopen("the broker refused a message; sending again")
            return
        with self._changed:
            settled = self._outbox.confirm(method.delivery_tag, multiple=method.multiple)
            if refused:
                self._note_drop(DropReason.REFUSED, settled)
            else:
                self._nacks = 0
                self._confirmed += settled
            self._changed.notify_all()
        if self._outbox.depth:
            self._send()

    def _on_return(
        self, _channel: object, _method: object, _properties: object, body: bytes
    ) -> None:
        events = 1 if self._separator is None else body.count(self._separator) + 1
        with self._changed:
            self._unrouted += events

    # In the thread that drops, with the lock.

    def _note_drop(self, reason: DropReason, events: int) -> None:
        """Count, and say the first of a burst aloud."""
        self._drops[reason] += events
        if not self._dropped_in_burst and not self._lossy:
            logger.warning("%s: from now on events are dropped: %s", self._name, reason.value)
        self._dropped_in_burst += events

    @property
    def _settled(self) -> int:
        """How many of those posted are confirmed, or given up."""
        return self._posted - self._outbox.depth - self._outbox.unconfirmed

    def _new_outbox(self) -> Outbox:
        limits, joined = self.limits, self._separator is not None
        return Outbox(
            max_events=limits.snoop_backlog_events if self._lossy else limits.backlog_events,
            max_bytes=limits.backlog_bytes,
            window=limits.window_messages * (1 if joined else limits.batch_events),
            batch_events=limits.batch_events if joined else 1,
            batch_bytes=limits.batch_bytes,
            resend=not self._lossy,
        )

    def _disown(self) -> None:
        super()._disown()
        # What the parent has not sent, it will send.
        self._outbox = self._new_outbox()
        self._posted = 0
        self._beat_timer = self._notice_timer = self._publishing = None
        self._wake_pending = self._beat_pending = False
        self._absent_at_s = 0.0


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
