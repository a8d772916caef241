"""Takes messages of envelopes: splits, decrypts and checks them, and hands each event on once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from ..delivery.inbox import Arrival, Inbox
from ..exceptions import MessageRejected, RejectReason
from ..limits import Limits
from ..logs import RelayedLogger
from ..wire.codec import Codec
from ..wire.envelope import NOTICE, TOKEN_SEPARATOR, Envelope
from .message_io import Delivery
from .receiver import Outcome, Ticket
from .sinks import SharedTicket, Sink

logger = RelayedLogger(__name__)

_MAX_TOKENS = 4_096
"""The most tokens in one message; many times the default of ``Limits.batch_events``."""

_WARN_INTERVAL_S = 60.0
"""Each reason for rejecting messages is logged as a warning at most once in this time."""


@dataclass(frozen=True)
class Admission:
    """Which envelopes are taken.

    Args:
        own_epoch: the epoch of the node's own envelopes, which are skipped.
        admit: called with each new envelope; raises `MessageRejected` to reject it.
        on_notice: called with each notice; without it, notices are ignored. Both callbacks are
            called in the reactor's thread and return at once.
        in_passing: routing keys of messages that are not counted as rejected when they are
            encrypted with another key.
    """

    own_epoch: int | None = None
    admit: Callable[[Envelope], object] | None = None
    on_notice: Callable[[Envelope], object] | None = None
    in_passing: tuple[str, ...] = ()


class EnvelopeTaker:
    """The `Taker` of a receiver of envelopes. Other threads may only read the counters.

    Args:
        name: the name of the receiver, for the log.
        codec: decrypts and deserializes.
        sink: takes the envelopes.
        limits: sizes and numbers.
        admission: which envelopes are taken.
    """

    def __init__(
        self,
        name: str,
        codec: Codec,
        sink: Sink,
        limits: Limits,
        admission: Admission = Admission(),
    ) -> None:
        self.received = 0
        """Envelopes that went to the sink."""
        self.own = 0
        """Envelopes of the own node that were skipped."""
        self.duplicates = 0
        """Envelopes that came again and were skipped."""
        self.rejected: Counter[RejectReason] = Counter()
        self._name = name
        self._codec = codec
        self._sink = sink
        self._admission = admission
        self._inbox = Inbox(limits.duplicate_senders)
        self._max_bytes = max(codec.max_bytes, limits.batch_bytes)
        # Tokens without our key cost their sender nothing, but cost us some microseconds each.
        self._max_tokens = max(_MAX_TOKENS, limits.batch_events)
        self._warned_s: dict[RejectReason, float] = {}
        self._gaps_warned_s = -_WARN_INTERVAL_S
        # Of the message that is being taken: the tokens that remain, how many were valid, how many
        # went to the sink, whether some had come before, and the ticket of these.
        self._tokens: deque[bytes] | None = None
        self._taken = self._handed = 0
        self._has_duplicates = False
        self._ticket: SharedTicket | None = None

    @property
    def gaps(self) -> int:
        """Envelopes that were skipped and have not come since."""
        return self._inbox.gaps

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Refuse a message that is larger than any that our publishers make."""
        if len(delivery.body) <= self._max_bytes:
            return False
        self._count_oversize(delivery.body)
        return True

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take the envelopes of a message, as far as there is room."""
        tokens = self._tokens
        if tokens is None:
            tokens = self._tokens = self._split(delivery.body)
            self._taken = self._handed = 0
            self._has_duplicates = False
            self._ticket = self._sink.begin()
        while tokens:
            room = self._sink.room()
            if room <= 0:
                return Outcome.NO_ROOM
            for _ in range(min(room, len(tokens))):
                self._take_token(tokens.popleft(), delivery)
        self._tokens = None
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
        self._tokens = self._ticket = None

    def _split(self, body: bytes) -> deque[bytes]:
        """The tokens of a message; none if none of our publishers can have made it."""
        tokens = body.split(TOKEN_SEPARATOR, self._max_tokens)
        if len(tokens) <= self._max_tokens:
            return deque(tokens)
        self._count_oversize(body)
        return deque()

    def _take_token(self, token: bytes, delivery: Delivery) -> None:
        try:
            envelope = self._codec.decode(token)
        except MessageRejected as error:
            is_foreign = error.reason is RejectReason.NOT_AUTHENTIC
            if not (is_foreign and delivery.routing_key in self._admission.in_passing):
                self._count_rejected(error)
            return
        self._taken += 1
        if envelope.epoch == self._admission.own_epoch:
            self.own += 1
            return
        if envelope.sequence == NOTICE:
            self._take_notice(envelope)
            return
        gaps = self._inbox.gaps
        arrival = self._inbox.arrive(envelope.sender, envelope.epoch, envelope.sequence)
        if arrival is Arrival.DUPLICATE:
            self.duplicates += 1
            self._has_duplicates = True
            return
        if self._inbox.gaps > gaps:
            self._warn_of_gap(envelope.sender, self._inbox.gaps - gaps)
        if self._admission.admit is not None:
            try:
                self._admission.admit(envelope)
            except MessageRejected as error:
                self._count_rejected(error)
                return
        self.received += 1
        self._handed += 1
        self._sink.put(envelope, self._ticket)

    def _take_notice(self, envelope: Envelope) -> None:
        if self._admission.on_notice is None:
            return
        try:
            self._admission.on_notice(envelope)
        except Exception:
            logger.exception("%s: a notice could not be taken", self._name)

    def _warn_of_gap(self, sender: str, missing: int) -> None:
        now_s = time.monotonic()
        if now_s - self._gaps_warned_s >= _WARN_INTERVAL_S:
            self._gaps_warned_s = now_s
            logger.warning("%s: %d events of %s are missing", self._name, missing, sender)

    def _count_oversize(self, body: bytes) -> None:
        error = MessageRejected(RejectReason.OVERSIZE, f"{len(body):,} bytes in one message")
        self._count_rejected(error)

    def _count_rejected(self, error: MessageRejected) -> None:
        self.rejected[error.reason] += 1
        now_s = time.monotonic()
        if now_s - self._warned_s.get(error.reason, -_WARN_INTERVAL_S) >= _WARN_INTERVAL_S:
            self._warned_s[error.reason] = now_s
            logger.warning("%s: rejected a message that is %s", self._name, error)
