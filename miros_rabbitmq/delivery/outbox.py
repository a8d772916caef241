"""What a publisher still has to send to one broker, and what that broker has not confirmed yet.

Pure: no I/O, no clock, no thread. The other half of the book-keeping is `window`, at the receiver.
Together they turn *at least once* on the wire into *exactly once, in the order of each sender*.
"""

from __future__ import annotations

import enum
import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from .allowance import Allowance
from .intake import SMALL_RECORD, Heading, Record
from .refusal import Refusal
from .suspects import Suspects


class DropReason(enum.Enum):
    """Why an event was dropped after it was accepted for sending, or after it came in."""

    BACKLOG = "the backlog for a broker that is absent, or takes too little, was full"
    CONNECTION = "a connection was lost or a queue full (snoops, which never wait)"
    REFUSED = "the broker refused it"
    STOPPED = "not confirmed when the node stopped"
    FIFO = "the chart's own FIFO was full"
    DEFERRED = "the chart had deferred too many"
    FORGOTTEN = "its broker was given up: gone for longer than forget_after, or no longer named"


_LEAST_PART = 32
"""Messages are made smaller, down to this part of what they may be, where a broker refuses large
ones without saying so."""

_MOST_KEYS = 256
"""The most routing keys that are remembered because the broker refuses them."""

_FEW = 8
"""Up to so many records in a beat may go one by one: their messages cost hardly anything."""


class Batch(NamedTuple):
    """Records that go out as one AMQP message."""

    tag: int
    """The delivery tag the channel gives it: messages of a channel are numbered from 1."""
    heading: Heading
    records: tuple[Record, ...]

    @property
    def body(self) -> bytes:
        """The message."""
        records = self.records
        if len(records) == 1:
            return self.heading.prefix + records[0].data
        return b"".join((self.heading.prefix, *(record.data for record in records)))


class Outbox:
    """Records on their way to one broker: those that wait, and those that are not yet confirmed.

    Not thread-safe: its owner locks.

    Args:
        max_events: the most records that wait or are unconfirmed; without ``resend``, only those
            that wait count.
        max_bytes: the same limit in bytes; the last record may exceed it.
        window: the most messages that are sent and not yet confirmed.
        batch_events: the most records in one message.
        batch_bytes: the most bytes in one message; a larger record goes alone.
        allowance: the most bytes that are sent and not yet confirmed. Each message takes at most
            half of it; one larger record may exceed it. Without it, there is no such limit.
        resend: whether records that were unconfirmed when the connection was lost are sent again.
            Otherwise they are dropped, for traffic that may be lost but must never wait.
    """

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        window: int,
        batch_events: int,
        batch_bytes: int,
        allowance: Allowance | None = None,
        resend: bool = True,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._window = window
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._least_batch_bytes = -(-batch_bytes // _LEAST_PART)
        self._allowance = allowance
        self._resend = resend
        self._suspects = Suspects()
        self._is_message_to_blame = False
        self._most_body = sys.maxsize
        self._refused_keys: set[str] = set()
        self._has_learned = False
        self.waiting: deque[Record] = deque()
        """Those that wait. For others to look at, not to change."""
        self._unconfirmed: OrderedDict[int, tuple[Record, ...]] = OrderedDict()
        self._next_tag = 1
        self._few_in_a_row = 2
        self._bytes = 0
        self._unconfirmed_events = 0
        self._unconfirmed_bytes = 0
        self.confirmed_bytes: int = 0
        """Of all records that the broker has settled since the beginning."""
        self.is_full: bool = False
        """It holds as much as it may. Computed at each change, because posts ask for it often."""
        self.fills_message: bool = False
        """What waits fills a message, so that waiting longer would save nothing."""
        self.has_window: bool = True
        """One more message may go under way. If not, some are: a confirm will open the window."""
        self.given_up: list[Record] = []
        """Records that were given up because the broker refuses them; their owner clears this."""
        self._set_window()

    @property
    def depth(self) -> int:
        """Records that wait to be sent."""
        return len(self.waiting)

    @property
    def unconfirmed(self) -> int:
        """Records sent and not yet confirmed."""
        return self._unconfirmed_events

    @property
    def unconfirmed_bytes(self) -> int:
        """The bytes of these."""
        return self._unconfirmed_bytes

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1; a little above if the last record exceeds the limit of bytes."""
        events, size = self._held()
        return max(events / self._max_events, size / self._max_bytes)

    @property
    def is_empty(self) -> bool:
        """Nothing waits and everything sent is confirmed."""
        return not self.waiting and not self._unconfirmed

    @property
    def is_calm(self) -> bool:
        """The last two messages held few records, or beats found none: hardly any had to wait.

        One alone tells nothing: the system may have paused the sending thread for a moment.
        """
        return self._few_in_a_row >= 2

    @property
    def room(self) -> int:
        """How many more small records certainly fit, with one place to spare; 0 or less for none.

        Small ones have at most `SMALL_RECORD` bytes.
        """
        events, size = self._held()
        return min(self._max_events - events, (self._max_bytes - size) // SMALL_RECORD) - 1

    @property
    def room_in_message(self) -> int:
        """How many more small records may wait without filling a message."""
        events = self._batch_events - len(self.waiting)
        return min(events, (self._message_bytes - self._bytes) // SMALL_RECORD) - 1

    def post_all(self, records: Sequence[Record]) -> None:
        """Put records behind the others; the caller has made sure that there is room for them."""
        self.waiting.extend(records)
        self._bytes += _size(records)
        self._measure()

    def post(self, record: Record) -> int:
        """Put a record behind the others; if the outbox is full, drop the oldest that wait.

        A post to an outbox that is not full drops nothing, so one record may exceed the limit of
        bytes.

        Returns:
            how many records were dropped.
        """
        dropped = 0
        while self.is_full and self.waiting:
            self._drop_first()
            dropped += 1
            self._measure()
        self.waiting.append(record)
        self._bytes += len(record.data)
        self._measure()
        return dropped

    def put_first(self, records: Sequence[Record]) -> None:
        """Put records before those that wait, even if there is no room for them.

        A search for what the broker refuses ends: it counts from the first that waits.
        """
        self._suspects = Suspects()
        self._set_window()
        self.waiting.extendleft(reversed(records))
        self._bytes += _size(records)
        self._measure()

    @property
    def held(self) -> list[Record]:
        """All records: those that are unconfirmed, if they would be sent again, then the others."""
        unconfirmed = self._unconfirmed.values() if self._resend else ()
        return [record for records in (*unconfirmed, self.waiting) for record in records]

    def hand_over(self) -> list[Record]:
        """Give all records away, as `held` has them. Confirms of these change nothing any more."""
        records = self.held
        self.waiting.clear()
        self._bytes = 0
        if self._resend:
            self._unconfirmed.clear()
            self._unconfirmed_events = self._unconfirmed_bytes = 0
            if self._allowance is not None:
                self._allowance.begin_anew()
        self._suspects = Suspects()
        self._set_window()
        self._measure()
        return records

    def take(self) -> Batch | None:
        """Take the next message to send, unless nothing waits or the window is full.

        Records that the broker is known to refuse are `given_up` instead.
        """
        waiting = self.waiting
        if not waiting or not self._has_window_still():
            return None
        if self._has_learned and self._is_refused(waiting[0]) and not self._give_up_refused():
            return None
        most_events = self._batch_events
        if self._suspects.is_searching:
            most_events = min(most_events, self._suspects.may_take(self._unconfirmed_events))
        records: list[Record] = []
        heading = waiting[0].heading
        moved = 0
        room = self._message_bytes - len(heading.prefix)
        for record in waiting:
            size = len(record.data)
            if records and (
                len(records) >= most_events or record.heading is not heading or moved + size > room
            ):
                break
            moved += size
            records.append(record)
        batch = Batch(self._next_tag, heading, tuple(records))
        # First they are unconfirmed, then they wait no longer: if an exception comes in between,
        # such as KeyboardInterrupt, some are sent twice, which the receivers notice, and none is
        # lost.
        self._unconfirmed[batch.tag] = batch.records
        self._next_tag += 1
        for _ in records:
            waiting.popleft()
        self._bytes -= moved
        self._unconfirmed_bytes += moved
        self._unconfirmed_events += len(records)
        self._few_in_a_row = self._few_in_a_row + 1 if len(records) <= _FEW else 0
        if self._suspects.is_searching:
            self._suspects.note_taken(len(records))
        if self._allowance is not None:
            self._allowance.note_sent(batch.tag, self._unconfirmed_bytes)
        self._set_window()
        self._measure()
        return batch

    def _is_refused(self, record: Record) -> bool:
        heading = record.heading
        return self.is_refused(heading.routing_key, len(heading.prefix) + len(record.data))

    def _give_up_refused(self) -> bool:
        """Give up what the broker is known to refuse; returns whether another may go now."""
        while self.waiting and self._is_refused(self.waiting[0]):
            self.given_up.append(self._drop_first())
        self._set_window()
        self._measure()
        return self.has_window and bool(self.waiting)

    def _has_window_still(self) -> bool:
        """Whether one more message may go now: time has passed since the window was set."""
        if self._allowance is not None:
            if not self._unconfirmed:
                if self._allowance.note_rest():
                    self._set_window()
            elif self._allowance.is_overdue:
                self.has_window = False
        return self.has_window

    def note_silence(self) -> None:
        """Note that a beat found nothing to send."""
        self._few_in_a_row += 1

    def skip_tag(self) -> None:
        """Note a message that went out without the outbox: the channel numbers it like any other.

        Its confirm changes nothing, and it is never sent again.
        """
        self._next_tag += 1

    def confirm(self, tag: int, *, multiple: bool = False) -> int:
        """Note the broker's confirm of one message, or of all up to it.

        Returns:
            how many records that confirms; 0 for a tag that is not under way.
        """
        confirmed = 0
        if multiple:
            while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
                confirmed += self._forget(self._unconfirmed.popitem(last=False)[1])
        else:
            confirmed = self._forget(self._unconfirmed.pop(tag, ()))
        if self._allowance is not None:
            self._allowance.note_confirmed(tag, multiple=multiple)
        self._set_window()
        self._measure()
        return confirmed

    def connection_lost(self) -> int:
        """Prepare for a new channel: unconfirmed records go to the front again, in order.

        Returns:
            how many records were dropped; 0 with ``resend``.
        """
        if self._resend:
            self._suspects.note_lost(self._unconfirmed_events)
        return self._take_back()

    def learn(self, refusal: Refusal) -> bool:
        """Note what the broker does not take, if it says so: large messages, or a routing key.

        Returns:
            whether this is news.
        """
        most_bytes, key = refusal.most_bytes, refusal.routing_key
        is_news = False
        if most_bytes is not None and most_bytes < self._most_body:
            self._most_body = most_bytes
            is_news = True
        if key is not None and key not in self._refused_keys:
            if len(self._refused_keys) == _MOST_KEYS:
                self._refused_keys.clear()
            self._refused_keys.add(key)
            is_news = True
        self._has_learned = self._has_learned or is_news
        self._set_window()
        self._measure()
        return is_news

    def unlearn(self) -> None:
        """Forget what was learned: limits and rights change."""
        self._most_body = sys.maxsize
        self._refused_keys.clear()
        self._has_learned = False
        self._set_window()
        self._measure()

    def is_refused(self, routing_key: str, size: int) -> bool:
        """Whether the broker is known to refuse a message of this size, or by this routing key."""
        return size > self._most_body or routing_key in self._refused_keys

    @property
    def is_searching(self) -> bool:
        """It looks for a record that the broker refuses, and sends what is suspect bit by bit."""
        return self._suspects.is_searching

    def message_refused(self, refusal: Refusal) -> int:
        """Prepare for a new channel, because one of the unconfirmed messages was refused.

        They are sent again bit by bit, until the one record is found; see `Suspects`. When it is,
        it is `given_up`. Without ``resend``, all are dropped.

        Returns:
            how many records were dropped; 0 with ``resend``.
        """
        if not self._resend:
            return self._take_back()
        messages = [len(records) for records in self._unconfirmed.values()]
        is_found = self._suspects.note_refused(messages, refusal.attempts)
        self._is_message_to_blame = refusal.is_certain
        if is_found:
            # It is the only one under way, as it was sent alone.
            self.given_up += self._unconfirmed.popitem()[1]
            self._forget(self.given_up[-1:])
        return self._take_back()

    def _take_back(self) -> int:
        dropped = 0
        if self._resend:
            for records in reversed(self._unconfirmed.values()):
                self.waiting.extendleft(reversed(records))
            # Counted anew, in case that an exception has come in the middle of `take`.
            self._bytes = _size(self.waiting)
        else:
            dropped = self._unconfirmed_events
        self._unconfirmed.clear()
        self._unconfirmed_events = self._unconfirmed_bytes = 0
        self._next_tag = 1
        if self._allowance is not None:
            self._allowance.begin_anew()
        self._set_window()
        self._measure()
        return dropped

    def _drop_first(self) -> Record:
        """Drop the first record that waits."""
        record = self.waiting.popleft()
        self._bytes -= len(record.data)
        if self._suspects.is_searching:
            self._suspects.note_dropped()
            self._set_window()
        return record

    def _set_window(self) -> None:
        """Set what depends on the messages that are under way."""
        is_awaited = self._suspects.is_searching and not self._may_try_more()
        allowed = self._allowance.bytes if self._allowance is not None else sys.maxsize
        # Half of it at most, so that the link has another message to carry when one is confirmed.
        size = allowed >> 1
        if size > self._batch_bytes:
            size = self._batch_bytes
        if size > self._most_body:
            size = self._most_body
        self._message_bytes = size
        under_way = len(self._unconfirmed)
        self.has_window = not under_way or (
            under_way < self._window
            and self._unconfirmed_bytes + size <= allowed
            and not is_awaited
        )

    def _may_try_more(self) -> bool:
        """Whether the search goes on without a confirm, or has just ended."""
        may_take = self._suspects.may_take(self._unconfirmed_events)
        if not self._suspects.is_searching:
            self._end_search()
            return True
        return may_take > 0

    def _end_search(self) -> None:
        """Make smaller messages, if each record was taken of a message that was refused."""
        if self._is_message_to_blame and not self._suspects.has_found:
            self._batch_bytes = max(self._batch_bytes // 2, self._least_batch_bytes)

    def _measure(self) -> None:
        events, size = len(self.waiting), self._bytes
        self.fills_message = events >= self._batch_events or size >= self._message_bytes
        if self._resend:
            events += self._unconfirmed_events
            size += self._unconfirmed_bytes
        self.is_full = events >= self._max_events or size >= self._max_bytes

    def _held(self) -> tuple[int, int]:
        """The number of records that count against the limits, and of their bytes."""
        if self._resend:
            return (
                len(self.waiting) + self._unconfirmed_events,
                self._bytes + self._unconfirmed_bytes,
            )
        return len(self.waiting), self._bytes

    def _forget(self, records: Sequence[Record]) -> int:
        size = len(records[0].data) if len(records) == 1 else _size(records)
        self._unconfirmed_events -= len(records)
        self._unconfirmed_bytes -= size
        self.confirmed_bytes += size
        return len(records)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.data) for record in records)
