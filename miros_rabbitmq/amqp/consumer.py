"""Consumers: a thread that takes messages from a queue at one broker and hands them to a callback.

How they are held and acknowledged is told in `receiver`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..delivery.inbox import Arrival, Inbox
from ..exceptions import MessageRejected, RejectReason
from ..wire.codec import Codec
from ..wire.envelope import NOTICE, TOKEN_SEPARATOR, Envelope
from .framing import Delivery
from .link_state import SessionState
from .receiver import Receiver

logger = logging.getLogger(__name__)

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


class SimplePikaTopicConsumer(Receiver):
    """Consumes messages of a topic exchange of one broker.

    Those that were not acknowledged when a connection is lost come again, marked as redelivered:
    what is held, and what was handed over in the last millisecond.

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

    def stats(self) -> ConsumerStats:
        """The counters; from any thread."""
        return ConsumerStats(self._state, self._messages, self._received, self._own, 0, 0, {})


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
        self._rejected: Counter[RejectReason] = Counter()
        self._warned_s: dict[RejectReason, float] = {}
        self._gaps_warned_s = -_WARN_INTERVAL_S
        # The tokens of the message at the head of the held that were not handed over yet.
        self._tokens: deque[bytes] | None = None
        self._taken = 0

    def stats(self) -> ConsumerStats:
        """The counters; from any thread."""
        stats = super().stats()
        return stats._replace(
            duplicates=self._duplicates, gaps=self._inbox.gaps, rejected=dict(self._rejected)
        )

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
        tokens = body.split(TOKEN_SEPARATOR, self._max_tokens)
        if len(tokens) <= self._max_tokens:
            return deque(tokens)
        self._count_oversize(body)
        return deque()

    def _reject_oversize(self, delivery: Delivery) -> None:
        self._count_oversize(delivery.body)
        super()._reject_oversize(delivery)

    def _count_oversize(self, body: bytes) -> None:
        error = MessageRejected(RejectReason.OVERSIZE, f"{len(body):,} bytes in one message")
        self._count_rejected(error)

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

    def _count_rejected(self, error: MessageRejected) -> None:
        self._rejected[error.reason] += 1
        now_s = time.monotonic()
        if now_s - self._warned_s.get(error.reason, -_WARN_INTERVAL_S) >= _WARN_INTERVAL_S:
            self._warned_s[error.reason] = now_s
            logger.warning("%s: rejected a message that is %s", self._name, error)
