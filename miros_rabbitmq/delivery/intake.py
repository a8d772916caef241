"""The place for posts that need no look of their own, because a look at all posts is coming anyway.

Pure. Under load nearly every post is of this kind: the next beat, the next confirm or a thread that
was just woken will look at it. To put a record here costs the posting thread a fraction of what it
costs to look.

A *look* closes the intake and takes what is in it. A thread opens the intake when it finds, while
posting, that another look is sure to come. A thread that has put a record in then asks whether the
intake is open. If so, a look is still to come and finds the record. If not, a look may have passed
just before, and the thread looks itself. Each side does first what the other does last, so at least
one of them sees the other (as in Dekker's algorithm; E. W. Dijkstra, "Cooperating sequential
processes", EWD 123, 1965, chapter 2).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

SMALL_RECORD = 512
"""The most bytes of a record that may be put in. The bytes of larger records have to be counted,
not only their number."""


class Heading(Protocol):
    """What the records of one message have in common; compared by identity."""

    @property
    def routing_key(self) -> str:
        """Where the message goes."""

    @property
    def prefix(self) -> bytes:
        """What the message begins with."""


class Record(Protocol):
    """Something to publish, as bytes."""

    @property
    def heading(self) -> Heading:
        """Only records with the same heading may share a message."""

    @property
    def data(self) -> bytes:
        """The bytes."""


class Intake:
    """Takes small records from any thread without a lock: `put`, `put_over` and `is_open`.

    The other methods need the lock of its owner.
    """

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._places = 0

    @property
    def is_open(self) -> bool:
        """A look is sure to come. To be asked after `put`."""
        return self._places > 0

    def put(self, record: Record) -> bool:
        """Put a record behind the others; tells whether there was a place for it."""
        if len(self._records) < self._places and len(record.data) <= SMALL_RECORD:
            self._records.append(record)
            return True
        return False

    def put_over(self, record: Record) -> None:
        """Put a record behind the others, even if the intake is closed or full.

        For a thread that cannot have the lock, and that has somebody look.
        """
        self._records.append(record)

    def __len__(self) -> int:
        return len(self._records)

    def open(self, places: int) -> None:
        """Take up to ``places`` small records until the next look, which is sure to come."""
        self._places = places

    def close(self) -> None:
        """Take no more records; the look that was to come still comes."""
        self._places = 0

    def look(self) -> list[Record]:
        """Close the intake, and return what is in it, in order."""
        self._places = 0
        records = self._records
        if not records:
            return []
        # A record that is put in from now on is left out: its thread will look itself.
        return [records[number] for number in range(len(records))]

    def forget(self, records: list[Record]) -> None:
        """Remove the records that `look` has returned, once they are stored elsewhere.

        Not before, so that an exception in between, such as KeyboardInterrupt, cannot lose the
        posts of other threads.
        """
        for record in records:
            if self._records and self._records[0] is record:
                self._records.popleft()
