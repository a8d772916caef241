"""Consumers: a thread that takes messages from a queue at one broker and hands them to a callback.

A message is acknowledged when the callback has had it, together with others that it has had about
then. Where the callback's side has no room, the message is held, unacknowledged, and tried again
shortly: the prefetch limit then holds the broker back, and the thread never blocks.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pika.channel import Channel

from .codec import NOTICE, TOKEN_SEPARATOR, Codec, Envelope
from .delivery import Arrival, Inbox
from .exceptions import MessageRejected, RejectReason
from .framing import Deliveries, Delivery
from .life import SessionState
from .limits import Limits
from .session import WARNINGS, Reporting, Session
from .settings import check_short_text
from .topology import Queue, declare_exchange

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.002
"""Wait before a callback without room is tried again: a chart handles some dozen events in it."""

_LOOK_AGAIN_MAX_S = 0.032
"""The wait doubles up to this while there is no room at all: a chart that handles nothing just now
shall not cost a processor either."""

_ACKNOWLEDGE_AFTER_S = 0.001
"""How long an acknowledgement may wait for others to go with: until the chart has had the event, as
it would hold up that one's answer, and not until the broker writes it to disk for want of it.
Until then the message may come again where the connection is lost."""

_ACKNOWLEDGE_SHARE = 4
"""It goes at once when it stands for one in so many of the messages that the prefetch limit allows:
so the broker always has leave to send more."""

_MAX_TOKENS = 4_096
"""Most tokens taken from one message; many times the default of ``Limits.batch_events``."""

_WARN_INTERVAL_S = 60.0
"""A reason for rejecting messages is warned about once in this time."""


class ConsumerStats(NamedTuple):
    """The counters of one consumer; all but ``messages`` count events."""

    state: SessionState
    messages: int
    """AMQP messages that were delivered."""
    received: int
    """Handed to the callback."""
    own: int
    """Messages of one's own that were skipped."""
    duplicates: int
    """Came more than once; handed over once."""
    gaps: int
    """Were sent, and never came."""
    rejected: dict[RejectReason, int]
    """Not taken, by reason."""


class SimplePikaTopicConsumer(Session):
    """Consumes messages of a topic exchange of one broker.

    Use::

        consumer = SimplePikaTopicConsumer(url, "my.exchange", "my.#", on_message=print)
        consumer.start_thread()
        ...
        consumer.stop_thread()

    Args:
        amqp_url: the broker, as in ``amqp://user:password@host:5672/%2F``.
        exchange_name: a durable topic exchange; declared where it does not exist.
        routing_key: the pattern to bind: ``*`` stands for a word, ``#`` for any number of words.
        on_message: called in the consumer's thread with each `Delivery`; it returns soon. What it
            raises is logged, and the message counts as handled.
        room: called in the consumer's thread: how many messages ``on_message`` can take now;
            default any number.
        further_keys: further routing keys to bind. What comes by these is said in passing: it is
            not counted where it is one's own, or of strangers.
        queue: the queue to declare and consume from; default an exclusive one.
        skip_sender_id: messages with this ``app_id`` are one's own and skipped.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL.
        role: what the connection is for, as its name at the broker and the thread's.
        on_change: called when the state has changed, in the thread that changed it.
        reporting: at which levels an outage is logged.

    Raises:
        SettingsError: the URL is not one, or AMQP has no such name of an exchange or pattern.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        on_message: Callable[[Any], object],
        room: Callable[[], int] | None = None,
        further_keys: Sequence[str] = (),
        queue: Queue | None = None,
        skip_sender_id: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros consumer",
        on_change: Callable[[], None] | None = None,
        reporting: Reporting = WARNINGS,
    ) -> None:
        check_short_text("exchange_name", exchange_name)
        check_short_text("routing_key", routing_key)
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
        self._on_message = on_message
        self._room = room
        self._keys = (routing_key, *further_keys)
        self._queue = queue or Queue()
        self._skip_sender_id = skip_sender_id
        self._held: deque[Delivery] = deque()
        self._look_again: Any = None
        self._look_again_s = _LOOK_AGAIN_S
        # The last message that was handled, and how many up to it are not acknowledged.
        self._handled_tag = self._handled = 0
        self._handled_at_once = max(1, self.limits.prefetch_messages // _ACKNOWLEDGE_SHARE)
        self._acknowledge_timer: Any = None
        # Of the channel in use.
        self._deliveries: Deliveries | None = None
        self._queue_name = ""
        self._messages = self._received = self._own = 0
        self._rejected: Counter[RejectReason] = Counter()
        self._warned_s: dict[RejectReason, float] = {}

    def stats(self) -> ConsumerStats:
        """The counters; from any thread."""
        return ConsumerStats(
            self._state,
            self._messages,
            self._received,
            self._own,
            0,
            0,
            dict(self._rejected),
        )

    # The session's thread.

    def _set_up(self, channel: Channel) -> None:
        channel.add_on_cancel_callback(lambda _: self._reopen("the queue was deleted"))
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(channel, lambda: self._declare_queue(channel)),
        )

    def _declare_queue(self, channel: Channel) -> None:
        queue = self._queue

        def on_declared(frame: Any) -> None:
            self._queue_name = frame.method.queue
            channel.basic_qos(prefetch_count=self.limits.prefetch_messages)
            self._bind_queue(channel, lambda: self._consume(channel))

        channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            arguments=dict(queue.arguments),
            callback=lambda frame: self._guarded(channel, lambda: on_declared(frame))(),
        )

    def _bind_queue(self, channel: Channel, done: Callable[[], None]) -> None:
        """Bind the queue with every pattern, then proceed."""
        proceed = self._guarded(channel, done)
        *others, last = self._keys
        for key in others:
            channel.queue_bind(self._queue_name, self.exchange_name, key)
        # The broker answers in order.
        channel.queue_bind(self._queue_name, self.exchange_name, last, callback=lambda _: proceed())

    def _consume(self, channel: Channel) -> None:
        tag = channel.basic_consume(
            self._queue_name, self._on_pika_delivery, callback=lambda _: self._set_up_done()
        )
        assert self._connection is not None
        self._deliveries = Deliveries(channel, tag, self._on_delivery)
        self._connection.shortcut = self._deliveries.take

    def _probe(self, channel: Channel) -> None:
        # The broker tells of a deleted queue, but not of a deleted exchange or binding.
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(channel, lambda: self._bind_queue(channel, self._answered)),
        )

    def _tear_down(self, channel: Channel, done: Callable[[], None]) -> None:
        if self._queue.exclusive:
            done()
        else:
            # A consumer that ends on purpose comes back under another name: nobody needs the queue.
            channel.queue_delete(self._queue.name, callback=lambda _: done())

    def _on_lost(self) -> None:
        # The broker delivers what was held, as it was not acknowledged, again.
        self._held.clear()
        self._handled = 0
        self._deliveries = None
        self._cancel_call(self._look_again)
        self._cancel_call(self._acknowledge_timer)
        self._look_again = self._acknowledge_timer = None

    def _on_pika_delivery(
        self, _channel: Channel, method: Any, properties: Any, body: bytes
    ) -> None:
        """Take one that the shortcut left to pika, as the parts of its frames came one by one."""
        self._on_delivery(
            Delivery(
                body,
                method.routing_key,
                properties.app_id,
                method.redelivered,
                method.delivery_tag,
            )
        )

    def _on_delivery(self, delivery: Delivery) -> None:
        self._messages += 1
        self._held.append(delivery)
        if self._look_again is None:
            self._hand_over()

    def _hand_over(self) -> None:
        """Hand held messages over, in order, as far as there is room for them."""
        self._look_again = None
        received = self._received
        while self._held and not self._stop_asked:
            delivery = self._held[0]
            if self._is_own(delivery):
                self._acknowledge(delivery)
            elif not self._deliver(delivery):
                if self._received != received:
                    self._look_again_s = _LOOK_AGAIN_S
                self._look_again = self._call_later(self._look_again_s, self._hand_over)
                self._look_again_s = min(2 * self._look_again_s, _LOOK_AGAIN_MAX_S)
                return
            self._held.popleft()
        self._look_again_s = _LOOK_AGAIN_S
        if self._received - received > 1:
            # Whoever was woken by the callback waits for the interpreter until this thread waits:
            # after one event soon, after many only when it has had the next message, too.
            time.sleep(0)

    def _deliver(self, delivery: Delivery) -> bool:
        """Hand over one message and acknowledge it, or tell that there is no room for it yet."""
        if self._room is not None and self._room() <= 0:
            return False
        self._call_back(delivery)
        self._acknowledge(delivery)
        return True

    def _is_own(self, delivery: Delivery) -> bool:
        """Count a message of one's own, which is skipped."""
        is_own = self._skip_sender_id is not None and delivery.sender_id == self._skip_sender_id
        self._own += is_own and not self._is_in_passing(delivery)
        return is_own

    def _is_in_passing(self, delivery: Delivery) -> bool:
        return delivery.routing_key in self._keys[1:]

    def _call_back(self, item: object) -> None:
        self._received += 1
        try:
            self._on_message(item)
        except Exception:
            logger.exception("%s: the callback for received messages raised", self._name)

    def _acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge a message soon; they are handled in the order of their tags."""
        self._handled_tag = delivery.tag
        self._handled += 1
        if self._handled >= self._handled_at_once:
            self._acknowledge_handled()
        elif self._acknowledge_timer is None:
            self._acknowledge_timer = self._call_later(
                _ACKNOWLEDGE_AFTER_S, self._on_acknowledge_timer
            )

    def _on_acknowledge_timer(self) -> None:
        self._acknowledge_timer = None
        self._acknowledge_handled()

    def _acknowledge_handled(self) -> None:
        deliveries = self._deliveries
        if self._handled and deliveries is not None and self._open_channel is not None:
            self._handled = 0
            deliveries.acknowledge(self._handled_tag)

    def _reject(self, delivery: Delivery) -> None:
        channel = self._open_channel
        if channel is not None:
            channel.basic_reject(delivery.tag, requeue=False)

    def _disown(self) -> None:
        super()._disown()
        self._held.clear()
        self._handled = 0
        self._look_again = self._acknowledge_timer = self._deliveries = None

    def _count_rejected(self, error: MessageRejected) -> None:
        self._rejected[error.reason] += 1
        now_s = time.monotonic()
        if now_s - self._warned_s.get(error.reason, -_WARN_INTERVAL_S) >= _WARN_INTERVAL_S:
            self._warned_s[error.reason] = now_s
            logger.warning("%s: rejected a message that is %s", self._name, error)


class PikaTopicConsumer(SimplePikaTopicConsumer):
    """Consumes what a `PikaTopicPublisher` with the same network and key publishes.

    Each envelope reaches the callback once and in its sender's order.

    Args:
        amqp_url: the broker.
        exchange_name: a durable topic exchange.
        routing_key: the pattern to bind.
        codec: decrypts and deserializes.
        on_message: called in the consumer's thread with each `Envelope`; it returns soon.
        admit: called before ``on_message`` with each envelope that is no duplicate; it raises
            `MessageRejected` where the envelope is not to be taken.
        own_epoch: envelopes of this epoch are one's own and skipped.
        on_notice: called in the consumer's thread with each envelope that stands outside of the
            sequence; these are not counted as received.
        options: further arguments of `SimplePikaTopicConsumer`.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        codec: Codec,
        on_message: Callable[[Envelope], object],
        admit: Callable[[Envelope], object] | None = None,
        own_epoch: int | None = None,
        on_notice: Callable[[Envelope], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(amqp_url, exchange_name, routing_key, on_message=on_message, **options)
        self._codec = codec
        self._admit = admit
        self._own_epoch = own_epoch
        self._on_notice = on_notice
        self._inbox = Inbox(self.limits.duplicate_senders)
        self._max_bytes = max(codec.max_bytes, self.limits.batch_bytes)
        # Tokens without a key cost their sender nothing, and us some microseconds each.
        self._max_tokens = max(_MAX_TOKENS, self.limits.batch_events)
        self._duplicates = 0
        self._gaps_warned_s = -_WARN_INTERVAL_S
        # The tokens of the message at the head of the held that were not handed over yet.
        self._tokens: deque[bytes] | None = None
        self._taken = 0

    def stats(self) -> ConsumerStats:
        """The counters; from any thread."""
        return super().stats()._replace(duplicates=self._duplicates, gaps=self._inbox.gaps)

    def _call_back(self, item: Any) -> None:
        if self._admit is not None:
            try:
                self._admit(item)
            except MessageRejected as error:
                self._count_rejected(error)
                return
        super()._call_back(item)

    def _split(self, body: bytes) -> deque[bytes]:
        """The tokens of a message; none where no publisher of ours can have made it."""
        if len(body) <= self._max_bytes:
            tokens = body.split(TOKEN_SEPARATOR, self._max_tokens)
            if len(tokens) <= self._max_tokens:
                return deque(tokens)
        error = MessageRejected(RejectReason.OVERSIZE, f"{len(body):,} bytes in one message")
        self._count_rejected(error)
        return deque()

    def _on_lost(self) -> None:
        super()._on_lost()
        self._tokens = None

    def _disown(self) -> None:
        super()._disown()
        self._tokens = None

    def _deliver(self, delivery: Delivery) -> bool:
        tokens = self._tokens
        if tokens is None:
            tokens = self._tokens = self._split(delivery.body)
            self._taken = 0
        while tokens:
            room = len(tokens) if self._room is None else self._room()
            if room <= 0:
                return False
            for _ in range(min(room, len(tokens))):
                self._take(tokens.popleft(), delivery)
        self._tokens = None
        if self._taken:
            self._acknowledge(delivery)
        else:
            self._reject(delivery)
        return True

    def _take(self, token: bytes, delivery: Delivery) -> None:
        try:
            envelope = self._codec.decode(token)
        except MessageRejected as error:
            foreign = error.reason is RejectReason.NOT_AUTHENTIC
            if not (foreign and self._is_in_passing(delivery)):
                self._count_rejected(error)
            return
        self._taken += 1
        if envelope.epoch == self._own_epoch:
            self._own += 1
            return
        if envelope.sequence == NOTICE:
            self._take_notice(envelope)
            return
        gaps = self._inbox.gaps
        arrival = self._inbox.arrive(envelope.sender, envelope.epoch, envelope.sequence)
        if arrival is Arrival.DUPLICATE:
            self._duplicates += 1
            return
        if self._inbox.gaps > gaps:
            self._warn_of_gap(envelope.sender, self._inbox.gaps - gaps)
        self._call_back(envelope)

    def _warn_of_gap(self, sender: str, missing: int) -> None:
        now_s = time.monotonic()
        if now_s - self._gaps_warned_s >= _WARN_INTERVAL_S:
            self._gaps_warned_s = now_s
            logger.warning("%s: %d events of %s are missing", self._name, missing, sender)

    def _take_notice(self, envelope: Envelope) -> None:
        if self._on_notice is None:
            return
        try:
            self._on_notice(envelope)
        except Exception:
            logger.exception("%s: the callback for notices raised", self._name)
