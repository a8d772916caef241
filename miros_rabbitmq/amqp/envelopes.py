"""Takes messages of envelopes: opens and judges them, and hands each event on once.

The order of a receipt: where it comes from, size, format, authenticity of the whole message; then,
event by event: repetition, age, deserialization, shape, and what the owner admits. Bytes that are
not authentic reach no deserializer.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..delivery.window import Arrival, Windows
from ..exceptions import MessageRejected, RejectReason
from ..limits import Limits
from ..logs import RelayedLogger
from ..wire.age import AgeCheck
from ..wire.codec import Codec
from ..wire.envelope import Envelope, Kind, Purpose
from ..wire.message import HEADER_BYTES, RECORD_OVERHEAD, count_records, epoch_of, purpose_of
from ..wire.notice import Notice
from ..wire.opener import Opened, Opener
from ..wire.record import Content, unpack
from .message_io import Delivery
from .receiver import Outcome, Ticket
from .sinks import SharedTicket, Sink
from .topic_pattern import TopicPattern

logger = RelayedLogger(__name__)

_MOST_RECORDS = 4_096
"""The most records in one message; many times the default of ``Limits.batch_events``."""

_MOST_ROUTING_KEYS = 1_024
"""The most routing keys for which is remembered whether they are ours."""

_MOST_NOTICE_BYTES = 1024 * 1024
"""The most memory for what is remembered of notices."""

_WARN_INTERVAL_S = 60.0
"""Each reason for rejecting messages is logged as a warning at most once in this time."""


@dataclass(frozen=True)
class Admission:
    """Which envelopes are taken.

    Args:
        bindings: the patterns with which the queue is bound. A message may come by a routing key
            that matches none of them: by a header ``CC`` or ``BCC``, or by a binding that somebody
            else has made. It is rejected.
        own_epoch: the epoch of the node's own envelopes, which are skipped.
        admit: called with each new envelope; raises `MessageRejected` to reject it.
        on_notice: called with each new notice; without it, notices are ignored. Both callbacks are
            called in the reactor's thread and return at once.
        in_passing: routing keys of messages that are not counted as rejected when they are
            encrypted with another key.
    """

    bindings: Sequence[str]
    own_epoch: bytes | None = None
    admit: Callable[[Envelope], object] | None = None
    on_notice: Callable[[Notice], object] | None = None
    in_passing: tuple[str, ...] = ()


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
        """Envelopes of the own node that were skipped."""
        self.duplicates = 0
        """Envelopes that came again and were skipped."""
        self.rejected: Counter[RejectReason] = Counter()
        self._name = name
        self._network = network
        self._kind = Kind.on(network)
        self._codec = codec
        self._sink = sink
        self._admission = admission
        self._patterns = [TopicPattern(pattern) for pattern in admission.bindings]
        self._routing_keys: dict[str, bool] = {}
        self._opener = Opener(codec, network, max(_MOST_RECORDS, limits.batch_events))
        most_windows = max(2, limits.duplicate_senders)
        self._windows = Windows(most_windows, limits.duplicate_bytes)
        self._notice_windows = Windows(most_windows, _MOST_NOTICE_BYTES)
        self._forgotten = 0
        self._age = AgeCheck(codec.max_age_s, codec.now)
        self._max_bytes = max(codec.max_bytes, limits.batch_bytes)
        self._most_content = codec.max_bytes - HEADER_BYTES - RECORD_OVERHEAD
        self._warned_s: dict[str, float] = {}
        # Of the message that is being taken: the contents that remain, their window, how many were
        # valid, how many went to the sink, whether some had come before, and the ticket of these.
        self._contents: deque[bytes] | None = None
        self._window: tuple[bytes, str] = (b"", "")
        self._taken = self._handed = 0
        self._has_duplicates = False
        self._ticket: SharedTicket | None = None

    @property
    def gaps(self) -> int:
        """Envelopes that were skipped and have not come since."""
        return self._windows.gaps

    def begin(self) -> None:
        """Note that the queue exists: what comes now was sent after this, or is a repetition."""
        self._age.begin()

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Refuse a message that is larger than any that our publishers make."""
        if len(delivery.body) <= self._max_bytes:
            return False
        size = f"{len(delivery.body):,} bytes in one message"
        self._count_rejected(MessageRejected(RejectReason.OVERSIZE, size))
        return True

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take the envelopes of a message, as far as there is room."""
        contents = self._contents
        if contents is None:
            if self._is_own(delivery.body):
                return Outcome.HANDLED
            try:
                opened = self._open(delivery)
            except MessageRejected as error:
                is_foreign = error.reason is RejectReason.NOT_AUTHENTIC
                if not (is_foreign and delivery.routing_key in self._admission.in_passing):
                    self._count_rejected(error)
                return Outcome.REJECTED
            self._taken = self._handed = 0
            if opened.header.purpose == Purpose.NOTICES:
                self._take_notices(opened, delivery.routing_key)
                return Outcome.HANDLED if self._taken else Outcome.REJECTED
            contents = self._contents = deque(opened.contents)
            self._window = opened.header.epoch, delivery.routing_key
            self._has_duplicates = False
            self._ticket = self._sink.begin()
        while contents:
            room = self._sink.room()
            if room <= 0:
                return Outcome.NO_ROOM
            for _ in range(min(room, len(contents))):
                self._take_content(contents.popleft())
        self._contents = None
        ticket, self._ticket = self._ticket, None
        if not self._taken:
            return Outcome.REJECTED
        if ticket is not None:
            if self._has_duplicates:
                # They may still be being handled, since the connection by which they came first
                # was lost before that was acknowledged.
                self._sink.follow(ticket)
            ticket.give_back()
            return ticket
        if self._handed > 1:
            # Give way: the chart's thread, which was woken, gets the interpreter only when this
            # thread waits. After one event that is soon; after many, only after the next message.
            time.sleep(0)
        return Outcome.HANDLED

    def forget(self) -> None:
        """Forget the message that was taken in part: it comes again, whole."""
        self._contents = self._ticket = None

    # A whole message.

    def _is_own(self, message: bytes) -> bool:
        """Count a message of the own node, which is skipped."""
        own_epoch = self._admission.own_epoch
        if own_epoch is None or epoch_of(message) != own_epoch:
            return False
        if purpose_of(message) == Purpose.EVENTS:
            self.own += count_records(message)
        return True

    def _open(self, delivery: Delivery) -> Opened:
        if delivery.exchange != self._network:
            raise MessageRejected(RejectReason.WRONG_NETWORK, f"{delivery.exchange[:40]!r}")
        routing_key = delivery.routing_key
        is_ours = self._routing_keys.get(routing_key)
        if is_ours is None:
            is_ours = any(pattern.matches(routing_key) for pattern in self._patterns)
            if len(self._routing_keys) >= _MOST_ROUTING_KEYS:
                self._routing_keys.clear()
            self._routing_keys[routing_key] = is_ours
        if not is_ours:
            raise MessageRejected(
                RejectReason.MISROUTED,
                f"{routing_key[:40]!r}, by a header CC or BCC, or a binding that is not ours",
            )
        return self._opener.open(delivery.body, routing_key)

    # The records in it. Each is judged on its own.

    def _take_content(self, plain: bytes) -> None:
        try:
            content = unpack(plain)
            if self._is_repeated(self._windows, self._window, content):
                self._taken += 1
                self.duplicates += 1
                self._has_duplicates = True
                return
            # From here on it counts as seen: if it is rejected, it is not missing, too.
            sent_ms = self._age.seen_ms(content.sent_ms)
            missing = self._windows.mark(self._window, content.sequence, sent_ms)
            if missing:
                self._warn_of_gap(content.sender, missing)
            if self._windows.forgotten != self._forgotten:
                self._warn_of_forgetting(content.sender)
            envelope = self._read(plain, content)
        except MessageRejected as error:
            self._count_rejected(error)
            return
        self._taken += 1
        self.received += 1
        self._handed += 1
        self._sink.put(envelope, self._ticket)

    def _is_repeated(self, windows: Windows, key: tuple[bytes, str], content: Content) -> bool:
        """Tell whether a record has come before.

        Raises:
            MessageRejected: it is too old.
        """
        if windows.judge(key, content.sequence) is Arrival.DUPLICATE:
            return True
        if self._age.is_on:
            is_known = windows.get(key) is not None
            try:
                self._age.check(content.sent_ms, None if is_known else windows.newest_evicted_ms)
            except MessageRejected:
                if is_known:  # it was rejected, and so is not missing
                    windows.mark(key, content.sequence, self._age.seen_ms(content.sent_ms))
                raise
        return False

    def _read(self, plain: bytes, content: Content) -> Envelope:
        """Restore and check a body."""
        if len(plain) > self._most_content:
            raise MessageRejected(RejectReason.OVERSIZE, f"an event of {len(plain):,} bytes")
        if content.kind != self._kind:
            raise MessageRejected(RejectReason.MALFORMED, f"its kind is {content.kind}")
        body: Any = self._codec.deserialize(content.body)
        if not self._kind.fits(body):
            raise MessageRejected(
                RejectReason.MALFORMED, "the body does not belong on this network"
            )
        network, (epoch, routing_key) = self._network, self._window
        _, sender, sent_ms, sequence, _ = content
        envelope = Envelope(network, routing_key, sender, epoch, sequence, sent_ms, body)
        if self._admission.admit is not None:
            self._admission.admit(envelope)
        return envelope

    def _take_notices(self, opened: Opened, routing_key: str) -> None:
        key = opened.header.epoch, routing_key
        for plain in opened.contents:
            try:
                content = unpack(plain)
                is_repeated = self._is_repeated(self._notice_windows, key, content)
            except MessageRejected as error:
                self._count_rejected(error)
                continue
            self._taken += 1
            if is_repeated or self._admission.on_notice is None:
                continue
            self._notice_windows.mark(key, content.sequence, self._age.seen_ms(content.sent_ms))
            try:
                self._admission.on_notice(Notice(content.kind, content.body))
            except Exception:
                logger.exception("%s: a notice could not be taken", self._name)

    # The log.

    def _warn_of_gap(self, sender: str, missing: int) -> None:
        if self._may_warn("a gap", _WARN_INTERVAL_S):
            logger.warning("%s: %d events of %r are missing", self._name, missing, sender)

    def _warn_of_forgetting(self, sender: str) -> None:
        self._forgotten = self._windows.forgotten
        if self._may_warn("forgetting", _WARN_INTERVAL_S):
            logger.warning(
                "%s: hardly anything of %r arrives, in too many pieces to remember: %d of its "
                "events may be taken twice, if somebody repeats them",
                self._name,
                sender,
                self._forgotten,
            )

    def _count_rejected(self, error: MessageRejected) -> None:
        self.rejected[error.reason] += 1
        if error.reason is RejectReason.OTHER_FORMAT:
            may_warn = self._may_warn(str(error), float("inf"))  # there are few such texts
        else:
            may_warn = self._may_warn(error.reason.value, _WARN_INTERVAL_S)
        if may_warn:
            logger.warning("%s: rejected a message that is %s", self._name, error)

    def _may_warn(self, of: str, interval_s: float) -> bool:
        now_s = time.monotonic()
        if now_s - self._warned_s.get(of, -interval_s) < interval_s:
            return False
        self._warned_s[of] = now_s
        return True
