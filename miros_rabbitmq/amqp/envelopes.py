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
from ..problems import ProblemKind, Report, report_to_nobody
from ..said_before import said_before
from ..wire.age import AgeCheck
from ..wire.codec import Codec
from ..wire.envelope import MOST_LINE_BYTES, Envelope, Kind, Purpose
from ..wire.memory import MANIFOLD, SMALL_BYTES, TINY_BYTES, memory_of
from ..wire.message import HEADER_BYTES, RECORD_OVERHEAD, count_records, epoch_of, purpose_of
from ..wire.notice import Notice, NoticeKind, told_numbers
from ..wire.opener import Opened, Opener, UnknownKey
from ..wire.record import Content, unpack
from .bindings import Bindings
from .freshness import Freshness, Key
from .message_io import Delivery
from .paced_log import CallLater, PacedLog
from .receiver import Outcome, Ticket
from .rejections import Rejections, Unread
from .sinks import SharedTicket, Sink

logger: RelayedLogger = RelayedLogger(__name__)

_MOST_RECORDS = 2_048
"""The most records in one message: many more than the default of ``Limits.batch_bytes`` has room
for."""

_MOST_NOTICE_BYTES = 1024 * 1024
"""The most memory for what is remembered of notices."""

_NOTICE_BOUNDS = Bounds(most_ranges=8)
"""What is remembered of each sender of notices. Each broker gets some of them, so a receiver sees
gaps all the time; and a notice that is repeated does little harm."""

_MOST_OTHER_KEYS = 4
"""Of so many keys of others is said that somebody uses them; anybody can make up more."""

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
        on_notice: called with each new notice and its sender's epoch; without it, notices are
            ignored.
        on_wrong_clock: called with the epoch of a sender and by how many ms its clock is ahead of
            ours, for each event and notice that is rejected for it. All three callbacks are called
            in the reactor's thread and return at once.
        report: is told of events that are missing, and of those that are rejected.
        own_name: the name of the node, as it arrives.
        on_namesake: called with the time, in ms since 1970, of each notice of another node of this
            name; like the other callbacks.
    """

    bindings: Sequence[str]
    notice_bindings: Sequence[str] = ()
    own_epochs: frozenset[bytes] = frozenset()
    admit: Callable[[Envelope], object] | None = None
    on_notice: Callable[[Notice, bytes], object] | None = None
    on_wrong_clock: Callable[[bytes, int], object] | None = None
    report: Report = report_to_nobody
    own_name: str = ""
    on_namesake: Callable[[int], object] | None = None


class _Message:
    """A message of which some envelopes were taken, and others are still to come."""

    __slots__ = ("contents", "handed", "has_duplicates", "key", "newest", "taken", "ticket")

    def __init__(self, opened: Opened, routing_key: str, ticket: SharedTicket | None) -> None:
        self.contents = deque(opened.contents)
        self.key: Key = (opened.header.epoch, routing_key)
        self.ticket = ticket
        self.taken = 0
        """How many were valid."""
        self.handed = 0
        """How many of these went to the sink."""
        self.newest = 0
        """The number of the last one that did."""
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
        self.received: int = 0
        """Envelopes that went to the sink."""
        self.own: int = 0
        """Envelopes of the own node that were skipped. Their epoch is in clear and nothing of them
        is checked, so somebody who has the broker's password can raise this number."""
        self.duplicates: int = 0
        """Envelopes that came again and were skipped."""
        self._network = network
        self._kind = Kind.on(network)
        self._fits = self._kind.fits
        self._codec = codec
        self._sink = sink
        self._admission = admission
        self._bindings = Bindings(network, admission.bindings, admission.notice_bindings)
        self._opener = Opener(codec, network, max(_MOST_RECORDS, limits.batch_events))
        # Of what is not authentic, no more records are counted than we put into a message.
        self._most_counted = limits.batch_events
        self._age = AgeCheck(codec.max_age_s, codec.now)
        senders = limits.duplicate_senders
        self._events = Freshness(self._age, senders, limits.duplicate_bytes)
        self._notices = Freshness(self._age, senders, _MOST_NOTICE_BYTES, _NOTICE_BOUNDS)
        self._forgotten = 0
        self._log = PacedLog(name, network, admission.report)
        self._rejections = Rejections(self._log)
        self._unread = Unread()
        self.most_bytes: int | None = max(codec.max_bytes, limits.batch_bytes)
        """No publisher of ours makes a larger message."""
        self._most_content = codec.max_bytes - HEADER_BYTES - RECORD_OVERHEAD
        if self._kind is Kind.LINE:  # others can have any number of them wait
            self._most_content = min(self._most_content, MOST_LINE_BYTES)
        self._most_memory = limits.fifo_remote_bytes
        self._message: _Message | None = None
        # The last event takes so much memory that its bytes count.
        self._took_large = False
        self._other_keys: set[bytes] = set()

    def rename(self, name: str) -> None:
        """Go by another name in the log, as the broker is at another address now."""
        self._log.name = name

    @property
    def gaps(self) -> int:
        """Envelopes that were skipped and have not come since, or came too late; without those
        that are `unread`."""
        return max(0, self._events.gaps - self._unread.explained)

    @property
    def unread(self) -> int:
        """Envelopes that are missing because as many of the same start and routing key were
        rejected unread. Their epoch was in clear, so somebody who has the broker's password can
        make a loss look like this."""
        return self._unread.explained

    @property
    def rejected(self) -> dict[RejectReason, int]:
        """Messages and envelopes that were rejected, by reason; a copy."""
        return dict(self._rejections.counts)

    def begin(self) -> None:
        """Note that the queue exists: what comes now was sent after this, or is a repetition."""
        self._age.begin()

    def use_timer(self, call_later: CallLater) -> None:
        """Have warnings that were held back said later, by a timer of the receiver's thread."""
        self._log.use_timer(call_later)

    def end(self) -> None:
        """Say what was not said yet, once the receiver has ended."""
        self._log.say_rest()

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Refuse a message that is larger than any that our publishers make."""
        most = self.most_bytes
        if most is None or len(delivery.body) <= most:
            return False
        size = f"more than {most:,} bytes in one message"
        self._reject_unread(MessageRejected(RejectReason.OVERSIZE, size), delivery)
        return True

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take the envelopes of a message, as far as there is room."""
        message = self._message
        if message is None:
            try:
                opened = self._open(delivery)
            except MessageRejected as error:
                is_for_all = delivery.routing_key in self._admission.notice_bindings
                if is_for_all and isinstance(error, UnknownKey):
                    self._tell_of_other_key(error)
                else:
                    self._reject_unread(error, delivery)
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
                if self._took_large:
                    self._took_large = False
                    break  # it counts in bytes, too: ask again how much room there is
        self._message = None
        if self._unread and message.handed:
            self._unread.forget(message.key, message.newest)
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
                self.own += count_records(message, self._most_counted)
            return None
        return self._opener.open(message, delivery.routing_key)

    def _tell_of_other_key(self, error: UnknownKey) -> None:
        """Say once that somebody here has another key, before an event of either is rejected.

        Each node announces itself to all others at its broker when it starts, and one of those with
        the same key does so every ``announce_s``, so that both sides say it.
        """
        if error.key_id in self._other_keys or len(self._other_keys) >= _MOST_OTHER_KEYS:
            return
        self._other_keys.add(error.key_id)
        text = said_before.once(error.about, error.of_node, "")
        if text:
            logger.warning("%s: %s", self._log.name, text)
        else:  # another chart or network of this process has said it
            logger.info("%s: %s", self._log.name, error.brief)

    # The records in it. Each is judged on its own.

    def _take_content(self, plain: bytes, message: _Message) -> None:
        content = None
        try:
            content = unpack(plain)
            # It counts as seen from here on: if it is rejected, it is not missing, too.
            arrival, missing = self._events.take(message.key, content)
            if missing or self._events.forgotten != self._forgotten:
                self._warn_of_losses(content.sender, message.key, missing)
            if arrival is not Arrival.NEW and not self._is_in_order(arrival, content, message):
                return
            envelope = self._read(plain, content, message.key)
        except MessageRejected as error:
            self._reject(error, content, message.key)
            return
        self.received += 1
        message.taken += 1
        message.handed += 1
        message.newest = content.sequence
        self._sink.put(envelope, message.ticket, envelope.memory)

    def _is_in_order(self, arrival: Arrival, content: Content, message: _Message) -> bool:
        """Tell whether to take an event that is not the newest of its sender.

        Raises:
            MessageRejected: it is not, and it is no repetition.
        """
        if arrival is Arrival.BELOW:
            self._log.say_once(
                ProblemKind.GAP,
                message.key,
                content.sender,
                f"events of {content.sender[:_MOST_SHOWN]!r} come from below a jump of its "
                "numbers, and are taken in order: somebody makes up numbers in its name, or it has "
                "lost many events on one way, and the events from behind the jump came too early",
            )
            return True
        message.taken += 1
        message.has_duplicates = True
        if arrival is Arrival.LATE:
            raise MessageRejected(
                RejectReason.LATE,
                "it came by another way than those, such as another node of a cluster, or somebody "
                "has held it back",
            )
        if arrival is Arrival.GIVEN_UP:
            raise MessageRejected(
                RejectReason.GIVEN_UP,
                "its sender has lost events at too many places, or somebody makes up numbers in "
                "its name",
            )
        self.duplicates += 1
        return False

    def _reject(self, error: MessageRejected, content: Content | None, key: Key) -> None:
        """Count an event that is rejected, and so is not missing."""
        self._rejections.count(
            error, _of("an event", content, key[1]), content.sender if content else ""
        )
        if content is None:
            self._unread.note(key, 1)
        elif error.reason in _FOR_ITS_TIME:
            if not self._events.knows(key[0]):
                self._unread.note(key, 1, content.sequence)
            elif self._events.missing_at_rejected:
                self._warn_of_losses(content.sender, key, self._events.missing_at_rejected)
            self._note_clock(error, content, key[0])

    def _reject_unread(self, error: MessageRejected, delivery: Delivery) -> None:
        """Count a message of which nothing is authentic."""
        self._rejections.count(error, _by(delivery))
        message = delivery.body
        epoch = epoch_of(message)
        if error.reason not in _UNREAD or not epoch or purpose_of(message) != Purpose.EVENTS:
            return
        key = epoch, delivery.routing_key
        # Of others, what is missing counts only from the first number on that is heard. So epochs
        # that somebody makes up push out nothing.
        if self._events.counts(key):
            self._unread.note(key, count_records(message, self._most_counted))

    def _note_clock(self, error: MessageRejected, content: Content, epoch: bytes) -> None:
        # What was sent before we listened, or is of a forgotten sender, says little of its clock.
        if self._admission.on_wrong_clock is not None and not error.cause:
            ahead_ms = content.sent_ms - int(self._codec.now() * 1000)
            self._admission.on_wrong_clock(epoch, ahead_ms)

    def _read(self, plain: bytes, content: Content, key: Key) -> Envelope:
        """Restore and check a body."""
        size = len(plain)
        if size > self._most_content:
            raise MessageRejected(RejectReason.OVERSIZE, f"{_WHAT[self._kind]} of {size:,} bytes")
        if content.kind != self._kind:
            raise MessageRejected(RejectReason.MALFORMED, f"its kind is {content.kind}")
        body: Any
        try:
            body = self._codec.deserialize(content.body)
        except SystemExit as error:  # of the user's deserializer; it would end the connection
            reason = RejectReason.NOT_DESERIALIZABLE
            raise MessageRejected(reason, "it has called sys.exit") from error
        if not self._fits(body):
            raise MessageRejected(
                RejectReason.MALFORMED, "the body does not belong on this network"
            )
        network, (epoch, routing_key) = self._network, key
        _, sender, sent_ms, sequence, _ = content
        envelope = Envelope(network, routing_key, sender, epoch, sequence, sent_ms, body)
        if size > TINY_BYTES and (size > SMALL_BYTES or plain.find(MANIFOLD) >= 0):
            memory = max(size, memory_of(body, self._most_memory))
            envelope = envelope._replace(memory=memory)
            self._took_large = True
        if self._admission.admit is not None:
            self._admission.admit(envelope)
        return envelope

    def _take_notices(self, opened: Opened, routing_key: str) -> Outcome:
        outcome = Outcome.REJECTED
        epoch = opened.header.epoch
        key = epoch, routing_key
        for plain in opened.contents:
            content = None
            try:
                content = unpack(plain)
                if content.kind == NoticeKind.CLOCK:
                    # It says that the clocks differ, so its time says nothing.
                    arrival = self._notices.take_at_any_time(key, content)
                else:
                    arrival, _ = self._notices.take(key, content)
            except MessageRejected as error:
                sender = content.sender if content else ""
                self._rejections.count(error, _of("a notice", content, routing_key), sender)
                if content is not None and error.reason in _FOR_ITS_TIME:
                    self._note_clock(error, content, epoch)
                continue
            outcome = Outcome.HANDLED
            if arrival is Arrival.DUPLICATE or arrival is Arrival.GIVEN_UP:
                continue
            namesake = self._admission.on_namesake
            if namesake is not None and content.sender == self._admission.own_name:
                namesake(content.sent_ms)
            if content.kind == NoticeKind.NUMBERS:
                self._hear_numbers(content, epoch)
            if self._admission.on_notice is None:
                continue
            try:
                self._admission.on_notice(Notice(content.kind, content.body), epoch)
            except Exception:
                logger.exception("%s: a notice could not be taken", self._log.name)
        return outcome

    def _hear_numbers(self, content: Content, epoch: bytes) -> None:
        """Count what its sender has sent, as it says, and what has not come here."""
        for routing_key, last in told_numbers(Notice(content.kind, content.body)):
            if self._bindings.are_for_events(routing_key):
                key = epoch, routing_key
                missing = self._events.tell(key, last)
                if missing:
                    self._warn_of_losses(content.sender, key, missing)

    def _warn_of_losses(self, sender: str, key: Key, missing: int) -> None:
        if missing:
            unread = self._unread.explain(key, missing) if self._unread else 0
            if missing > unread:
                self._log.say(ProblemKind.GAP, (key[0], sender), sender, _missing, missing - unread)
            if unread:
                about = "unread", key[0], sender
                self._log.say(ProblemKind.REJECTED, about, sender, _rejected_unread, unread)
        if self._events.forgotten != self._forgotten:
            newly = self._events.forgotten - self._forgotten
            self._forgotten = self._events.forgotten
            self._log.say(ProblemKind.GAP, "forgotten", sender, _forgotten, newly)


_WHAT = {Kind.EVENT: "an event", Kind.LINE: "a snoop line", Kind.VALUE: "a value"}

_FOR_ITS_TIME = frozenset({RejectReason.TOO_OLD, RejectReason.CLOCK_SKEW})

_UNREAD = frozenset({RejectReason.NOT_AUTHENTIC, RejectReason.OVERSIZE})
"""For these, an event is rejected before its number is known."""


def _missing(events: int, whom: str, is_more: bool) -> str:
    more = " more" if is_more else ""
    return (
        f"{_count(events, more)} of {whom} {'is' if events == 1 else 'are'} missing: the queue "
        "here was gone or full (its broker was reset, or was cut off for more than a minute), or "
        "the sender has exceeded a limit, of which its own log tells"
    )


def _rejected_unread(events: int, whom: str, is_more: bool) -> str:
    more = " more" if is_more else ""
    are = "is" if events == 1 else "are"
    return (
        f"{_count(events, more)} of {whom} {are} missing, and as many of the same start were "
        "rejected here before they could be read, for example because no key of ours opens them: "
        "they were not lost on the way, unless somebody imitates that"
    )


def _forgotten(events: int, whom: str, _is_more: bool) -> str:
    return (
        f"hardly anything of {whom} arrives, in too many pieces to remember: {events} of its "
        "events may be taken twice, if somebody repeats them"
    )


def _count(events: int, more: str) -> str:
    return f"{events}{more} event{'' if events == 1 else 's'}"


def _by(delivery: Delivery) -> str:
    """Name a message of which nothing is authentic, for the log."""
    return f"a message (routing key {delivery.routing_key[:_MOST_SHOWN]!r})"


def _of(what: str, content: Content | None, routing_key: str) -> str:
    """Name something authentic, for the log."""
    sender = f" of {content.sender[:_MOST_SHOWN]!r}" if content is not None else ""
    return f"{what}{sender} (routing key {routing_key[:_MOST_SHOWN]!r})"
