"""What a publisher still has to send to one broker, and what that broker has not confirmed yet.

Pure: no I/O, no clock, no thread. The other half of the book-keeping is `window`, at the receiver.
Together they turn *at least once* on the wire into *exactly once, in the order of each sender*.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from .intake import SMALL_RECORD, Heading, Record


class DropReason(enum.Enum):
    """Why an event was dropped after it was accepted for sending, or after it came in."""

    BACKLOG = "the backlog for an absent broker was full"
    CONNECTION = "a connection was lost or a queue full (snoops, which never wait)"
    REFUSED = "the broker refused it again and again (basic.nack)"
    STOPPED = "it was not confirmed when the node stopped"
    FIFO = "the chart's own FIFO was full"
    FORGOTTEN = "its broker was given up: gone for longer than forget_after, or no longer named"


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
        return b"".join((self.heading.prefix, *(record.data for record in self.records)))


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
        resend: bool = True,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._window = window
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._resend = resend
        self._waiting: deque[Record] = deque()
        self._unconfirmed: OrderedDict[int, tuple[Record, ...]] = OrderedDict()
        self._next_tag = 1
        self._few_in_a_row = 2
        self._bytes = 0
        self._unconfirmed_events = 0
        self._unconfirmed_bytes = 0
        self.is_full = False
        """It holds as much as it may. Computed at each change, because posts ask for it often."""
        self.fills_message = False
        """What waits fills a message, so that waiting longer would save nothing."""

    @property
    def depth(self) -> int:
        """Records that wait to be sent."""
        return len(self._waiting)

    @property
    def unconfirmed(self) -> int:
        """Records sent and not yet confirmed."""
        return self._unconfirmed_events

    @property
    def is_empty(self) -> bool:
        """Nothing waits and everything sent is confirmed."""
        return not self._waiting and not self._unconfirmed

    @property
    def has_window(self) -> bool:
        """One more message may go under way."""
        return len(self._unconfirmed) < self._window

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
        events = self._batch_events - len(self._waiting)
        return min(events, (self._batch_bytes - self._bytes) // SMALL_RECORD) - 1

    def post_all(self, records: Sequence[Record]) -> None:
        """Put records behind the others; the caller has made sure that there is room for them."""
        self._waiting.extend(records)
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
        while self.is_full and self._waiting:
            self._bytes -= len(self._waiting.popleft().data)
            dropped += 1
            self._measure()
        self._waiting.append(record)
        self._bytes += len(record.data)
        self._measure()
        return dropped

    def put_first(self, records: Sequence[Record]) -> None:
        """Put records before those that wait, even if there is no room for them."""
        self._waiting.extendleft(reversed(records))
        self._bytes += _size(records)
        self._measure()

    @property
    def held(self) -> list[Record]:
        """All records: those that are unconfirmed, if they would be sent again, then the others."""
        unconfirmed = self._unconfirmed.values() if self._resend else ()
        return [record for records in (*unconfirmed, self._waiting) for record in records]

    def hand_over(self) -> list[Record]:
        """Give all records away, as `held` has them. Confirms of these change nothing any more."""
        records = self.held
        self._waiting.clear()
        self._bytes = 0
        if self._resend:
            self._unconfirmed.clear()
            self._unconfirmed_events = self._unconfirmed_bytes = 0
        self._measure()
        return records

    def take(self) -> Batch | None:
        """Take the next message to send, unless nothing waits or the window is full."""
        if not self._waiting or len(self._unconfirmed) >= self._window:
            return None
        waiting = self._waiting
        first = waiting.popleft()
        heading, records = first.heading, [first]
        moved = len(first.data)
        room = self._batch_bytes - len(heading.prefix)
        while (
            waiting
            and len(records) < self._batch_events
            and waiting[0].heading is heading
            and moved + len(waiting[0].data) <= room
        ):
            record = waiting.popleft()
            moved += len(record.data)
            records.append(record)
        self._bytes -= moved
        self._unconfirmed_bytes += moved
        self._few_in_a_row = self._few_in_a_row + 1 if len(records) <= _FEW else 0
        batch = Batch(self._next_tag, heading, tuple(records))
        self._next_tag += 1
        self._unconfirmed[batch.tag] = batch.records
        self._unconfirmed_events += len(records)
        self._measure()
        return batch

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
        self._measure()
        return confirmed

    def connection_lost(self) -> int:
        """Prepare for a new channel: unconfirmed records go to the front again, in order.

        Returns:
            how many records were dropped; 0 with ``resend``.
        """
        dropped = 0
        if self._resend:
            for records in reversed(self._unconfirmed.values()):
                self._waiting.extendleft(reversed(records))
                self._bytes += _size(records)
        else:
            dropped = self._unconfirmed_events
        self._unconfirmed.clear()
        self._unconfirmed_events = self._unconfirmed_bytes = 0
        self._next_tag = 1
        self._measure()
        return dropped

    def _measure(self) -> None:
        waiting = len(self._waiting)
        self.fills_message = waiting >= self._batch_events or self._bytes >= self._batch_bytes
        events, size = self._held()
        self.is_full = events >= self._max_events or size >= self._max_bytes

    def _held(self) -> tuple[int, int]:
        """The number of records that count against the limits, and of their bytes."""
        if self._resend:
            return (
                len(self._waiting) + self._unconfirmed_events,
                self._bytes + self._unconfirmed_bytes,
            )
        return len(self._waiting), self._bytes

    def _forget(self, records: Sequence[Record]) -> int:
        self._unconfirmed_events -= len(records)
        self._unconfirmed_bytes -= _size(records)
        return len(records)


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.data) for record in records)
