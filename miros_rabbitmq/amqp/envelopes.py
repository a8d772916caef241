"""Takes messages of envelopes: opens and judges them, and hands each event on once.

The order of a receipt: where it comes from, size, format, authenticity of the whole message; then,
event by event: repetition, age, deserialization, shape, and what the owner admits. Bytes that are
not authentic reach no deserializer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..delivery.window import Arrival, Bounds
from ..exceptions import MessageRejected, RejectReason
from ..limits import Limits
from ..logs import RelayedLogger
from ..wire.age import AgeCheck
from ..wire.codec import Codec
from ..wire.envelope import Envelope, Kind, Purpose
from ..wire.memory import SMALL_BYTES, memory_of
from ..wire.message import HEADER_BYTES, RECORD_OVERHEAD, count_records, epoch_of, purpose_of
from ..wire.notice import Notice
from ..wire.opener import Opened, Opener, UnknownKey
from ..wire.record import Content, unpack
from .bindings import Bindings
from .freshness import Freshness, Key
from .message_io import Delivery
from .receiver import Outcome, Ticket
from .rejections import Rejections
from .sinks import SharedTicket, Sink

logger = RelayedLogger(__name__)

_MOST_RECORDS = 2_048
"""The most records in one message: many more than the default of ``Limits.batch_bytes`` has room
for."""

_MOST_NOTICE_BYTES = 1024 * 1024
"""The most memory for what is remembered of notices."""

_NOTICE_BOUNDS = Bounds(most_ranges=8)
"""What is remembered of each sender of notices. Each broker gets some of them, so a receiver sees
gaps all the time; and a notice that is repeated does little harm."""

_MOST_SHOWN = 80
"""The most characters of a name or routing key of others in a line of the log."""


@dataclass(frozen=True)
class Admission:
    """Which envelopes are taken.

    Args:
        bindings: the patterns with which the queue is bound.
        notice_bindings: further patterns, for notices. Messages by these routing keys that are
            encrypted with the key of another system are not counted as rejected.
        own_epochs: the epochs of the node's own envelopes, which are skipped.
        admit: called with each new envelope; raises `MessageRejected` to reject it.
        on_notice: called with each new notice; without it, notices are ignored. Both callbacks are
            called in the reactor's thread and return at once.
    """

    bindings: Sequence[str]
    notice_bindings: Sequence[str] = ()
    own_epochs: frozenset[bytes] = frozenset()
    admit: Callable[[Envelope], object] | None = None
    on_notice: Callable[[Notice], object] | None = None


class _Message:
    """A message of which some envelopes were taken, and others are still to come."""

    __slots__ = ("contents", "handed", "has_duplicates", "key", "taken", "ticket")

    def __init__(self, opened: Opened, routing_key: str, ticket: SharedTicket | None) -> None:
        self.contents = deque(opened.contents)
        self.key: Key = (opened.header.epoch, routing_key)
        self.ticket = ticket
        self.taken = 0
        """How many were valid."""
        self.handed = 0
        """How many of these went to the sink."""
        self.has_duplicates = False
        """Whether some had come before."""


class EnvelopeTaker:
    """The `Taker` of a receiver of envelopes. Other threads may only read the counters.

    Args:
        name: the name of the receiver, for the log.
        network: the exchange.
        codec: has the keys, and deserializes.
        sink: takes the envelopes.
        limits: sizes and numbers.
        admission: which envelopes are taken.
    """

    def __init__(
        self,
        name: str,
        network: str,
        codec: Codec,
        sink: Sink,
        limits: Limits,
        admission: Admission,
    ) -> None:
        self.received = 0
        """Envelopes that went to the sink."""
        self.own = 0
        """Envelopes of the own node that were skipped. Their epoch is in clear and nothing of them
        is checked, so somebody who has the broker's password can raise this number."""
        self.duplicates = 0
        """Envelopes that came again and were skipped."""
        self._name = name
        self._network = network
        self._kind = Kind.on(network)
        self._fits = self._kind.fits
        self._codec = codec
        self._sink = sink
        self._admission = admission
        self._bindings = Bindings(network, admission.bindings, admission.notice_bindings)
        self._opener = Opener(codec, network, max(_MOST_RECORDS, limits.batch_events))
        self._age = AgeCheck(codec.max_age_s, codec.now)
        senders = limits.duplicate_senders
        self._events = Freshness(self._age, senders, limits.duplicate_bytes)
        self._notices = Freshness(self._age, senders, _MOST_NOTICE_BYTES, _NOTICE_BOUNDS)
        self._forgotten = 0
        self._rejections = Rejections(name)
        self.most_bytes: int | None = max(codec.max_bytes, limits.batch_bytes)
        """No publisher of ours makes a larger message."""
        self._most_content = codec.max_bytes - HEADER_BYTES - RECORD_OVERHEAD
        self._most_memory = limits.fifo_remote_bytes
        self._message: _Message | None = None

    @property
    def gaps(self) -> int:
        """Envelopes that were skipped and have not come since."""
        return self._events.gaps

    @property
    def rejected(self) -> dict[RejectReason, int]:
        """Messages and envelopes that were rejected, by reason; a copy."""
        return dict(self._rejections.counts)

    def begin(self) -> None:
        """Note that the queue exists: what comes now was sent after this, or is a repetition."""
        self._age.begin()

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Refuse a message that is larger than any that our publishers make."""
        most = self.most_bytes
        if most is None or len(delivery.body) <= most:
            return False
        size = f"more than {most:,} bytes in one message"
        self._rejections.count(MessageRejected(RejectReason.OVERSIZE, size), _by(delivery))
        return True

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take the envelopes of a message, as far as there is room."""
        message = self._message
        if message is None:
            try:
                opened = self._open(delivery)
            except MessageRejected as error:
                is_for_all = delivery.routing_key in self._admission.notice_bindings
                if not (is_for_all and isinstance(error, UnknownKey)):
                    self._rejections.count(error, _by(delivery))
                return Outcome.REJECTED
            if opened is None:
                return Outcome.HANDLED
            if opened.header.purpose == Purpose.NOTICES:
                return self._take_notices(opened, delivery.routing_key)
            message = _Message(opened, delivery.routing_key, self._sink.begin())
            self._message = message
        contents = message.contents
        while contents:
            room = self._sink.room()
            if room <= 0:
                return Outcome.NO_ROOM
            for _ in range(min(room, len(contents))):
                plain = contents.popleft()
                self._take_content(plain, message)
                if len(plain) > SMALL_BYTES:
                    break  # it counts in bytes, too: ask again how much room there is
        self._message = None
        ticket = message.ticket
        if not message.taken:
            return Outcome.REJECTED
        if ticket is not None:
            if message.has_duplicates:
                # They may still be being handled, since the connection by which they came first
                # was lost before that was acknowledged.
                self._sink.follow(ticket)
            ticket.give_back()
            return ticket
        if message.handed > 1:
            # Give way: the chart's thread, which was woken, gets the interpreter only when this
            # thread waits. After one event that is soon; after many, only after the next message.
            time.sleep(0)
        return Outcome.HANDLED

    def forget(self) -> None:
        """Forget the message that was taken in part: it comes again, whole."""
        self._message = None

    # A whole message.

    def _open(self, delivery: Delivery) -> Opened | None:
        """Decrypt a message; returns `None` for one of the own node, which is skipped."""
        message = delivery.body
        purpose = purpose_of(message)
        self._bindings.check(delivery, purpose)
        if epoch_of(message) in self._admission.own_epochs:
            if purpose == Purpose.EVENTS:
                self.own += count_records(message)
            return None
        return self._opener.open(message, delivery.routing_key)

    # The records in it. Each is judged on its own.

    def _take_content(self, plain: bytes, message: _Message) -> None:
        content = None
        try:
            content = unpack(plain)
            # It counts as seen from here on: if it is rejected, it is not missing, too.
            arrival, missing = self._events.take(message.key, content)
            if arrival is Arrival.DUPLICATE or arrival is Arrival.GIVEN_UP:
                message.taken += 1
                message.has_duplicates = True
                if arrival is Arrival.GIVEN_UP:
                    raise MessageRejected(
                        RejectReason.GIVEN_UP,
                        "its sender has lost events at too many places, or somebody makes up "
                        "numbers in its name",
                    )
                self.duplicates += 1
                return
            if missing or self._events.forgotten != self._forgotten:
                self._warn_of_losses(content.sender, missing)
            envelope = self._read(plain, content, message.key)
        except MessageRejected as error:
            self._rejections.count(error, _of("an event", content, message.key[1]))
            return
        self.received += 1
        message.taken += 1
        message.handed += 1
        self._sink.put(envelope, message.ticket, envelope.memory)

    def _read(self, plain: bytes, content: Content, key: Key) -> Envelope:
        """Restore and check a body."""
        size = len(plain)
        if size > self._most_content:
            raise MessageRejected(RejectReason.OVERSIZE, f"an event of {size:,} bytes")
        if content.kind != self._kind:
            raise MessageRejected(RejectReason.MALFORMED, f"its kind is {content.kind}")
        body: Any = self._codec.deserialize(content.body)
        if not self._fits(body):
            raise MessageRejected(
                RejectReason.MALFORMED, "the body does not belong on this network"
            )
        network, (epoch, routing_key) = self._network, key
        _, sender, sent_ms, sequence, _ = content
        envelope = Envelope(network, routing_key, sender, epoch, sequence, sent_ms, body)
        if size > SMALL_BYTES:
            memory = max(size, memory_of(body, self._most_memory))
            envelope = envelope._replace(memory=memory)
        if self._admission.admit is not None:
            self._admission.admit(envelope)
        return envelope

    def _take_notices(self, opened: Opened, routing_key: str) -> Outcome:
        outcome = Outcome.REJECTED
        key = opened.header.epoch, routing_key
        for plain in opened.contents:
            content = None
            try:
                content = unpack(plain)
                arrival, _ = self._notices.take(key, content)
            except MessageRejected as error:
                self._rejections.count(error, _of("a notice", content, routing_key))
                continue
            outcome = Outcome.HANDLED
            is_new = arrival is Arrival.NEW or arrival is Arrival.LATE
            if not is_new or self._admission.on_notice is None:
                continue
            try:
                self._admission.on_notice(Notice(content.kind, content.body))
            except Exception:
                logger.exception("%s: a notice could not be taken", self._name)
        return outcome

    def _warn_of_losses(self, sender: str, missing: int) -> None:
        if missing:
            self._rejections.warn("gap", f"{missing} events of {sender!r} are missing")
        if self._events.forgotten != self._forgotten:
            self._forgotten = self._events.forgotten
            self._rejections.warn(
                "forgetting",
                f"hardly anything of {sender!r} arrives, in too many pieces to remember: "
                f"{self._forgotten} of its events may be taken twice, if somebody repeats them",
            )


def _by(delivery: Delivery) -> str:
    """Name a message of which nothing is authentic, for the log."""
    return f"a message by the routing key {delivery.routing_key[:_MOST_SHOWN]!r}"


def _of(what: str, content: Content | None, routing_key: str) -> str:
    """Name something authentic, for the log."""
    sender = f" of {content.sender[:_MOST_SHOWN]!r}" if content is not None else ""
    return f"{what}{sender} by the routing key {routing_key[:_MOST_SHOWN]!r}"
