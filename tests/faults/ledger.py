"""The ledger of a test of delivery: what was attempted, what was accepted, what was delivered.

Every sender numbers what it transmits: 0, 1, 2 and so on; a number that was not accepted is used
again. So each receiver is to get the numbers of each sender one after the other, and the books
need no more memory for a million events than for ten.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Verdict(NamedTuple):
    """What the ledger says; the last four have to be 0."""

    attempted: int
    accepted: int
    """``transmit`` has returned."""
    delivered: int
    """Handled by a chart. Each event is meant for every chart but its sender."""
    lost: int
    duplicated: int
    reordered: int
    """Came after one that was sent later."""
    unexpected: int
    """Was not accepted, or came back to its sender."""

    @property
    def is_clean(self) -> bool:
        """Every accepted event was delivered once and in order, and no other."""
        return not (self.lost or self.duplicated or self.reordered or self.unexpected)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:,}" for name, value in self._asdict().items())


class Account(NamedTuple):
    """What became of one sender's events at one receiver."""

    transmitted: int
    delivered: int
    """Each counted once."""
    lost: int
    duplicated: int
    reordered: int

    @property
    def is_clean(self) -> bool:
        """Every event was delivered once and in order."""
        return not (self.lost or self.duplicated or self.reordered)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:,}" for name, value in self._asdict().items())


class Page:
    """What one receiver got of one sender; only the receiver's thread writes."""

    def __init__(self) -> None:
        self.delivered = 0
        self.next = 0
        self.missing: set[int] = set()
        self.duplicated = 0
        self.reordered = 0

    def deliver(self, number: int) -> None:
        self.delivered += 1
        if number >= self.next:
            self.missing.update(range(self.next, number))
            self.next = number + 1
        elif number in self.missing:
            self.missing.discard(number)
            self.reordered += 1
        else:
            self.duplicated += 1


class Ledger:
    """The entries, by the names of senders and receivers. Any thread may use it.

    Args:
        names: those of all charts: each sends, and each receives what the others send.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._lock = threading.Lock()
        self._attempted: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        self._pages = {(one, other): Page() for one in self.names for other in self.names}

    def attempt(self, sender: str) -> int:
        """Note an attempt and say the number to send; a sender has one attempt at a time."""
        with self._lock:
            self._attempted[sender] += 1
            return self._accepted[sender]

    def accept(self, sender: str) -> None:
        """Note that the attempt was accepted."""
        with self._lock:
            self._accepted[sender] += 1

    def accepted(self, sender: str) -> int:
        """How many of a sender's were accepted."""
        return self._accepted[sender]

    def reached(self, sender: str, receiver: str) -> int:
        """The number that a receiver expects next of a sender."""
        return self._pages[sender, receiver].next

    def page(self, sender: str, receiver: str) -> Page:
        """What a receiver got of a sender."""
        return self._pages[sender, receiver]

    def deliver(self, receiver: str, sender: str, number: int) -> None:
        """Note that a chart has handled an event."""
        self._pages[sender, receiver].deliver(number)

    def account(self, sender: str, receiver: str) -> Account:
        """How the two stand; what is under way counts as lost."""
        page, accepted = self._pages[sender, receiver], self._accepted[sender]
        lost = len(page.missing) + max(0, accepted - page.next)
        return Account(
            accepted, page.delivered - page.duplicated, lost, page.duplicated, page.reordered
        )

    def is_settled(self) -> bool:
        """All that was accepted came, or at least what was sent after it."""
        return all(
            self._pages[sender, receiver].next >= self._accepted[sender]
            for sender in self.names
            for receiver in self.names
            if sender != receiver
        )

    def verdict(self) -> Verdict:
        """Close the books; while events are under way, these count as lost."""
        delivered = lost = duplicated = reordered = unexpected = 0
        for (sender, receiver), page in self._pages.items():
            if sender == receiver:
                unexpected += page.delivered
                continue
            accepted = self._accepted[sender]
            delivered += page.delivered
            lost += len(page.missing) + max(0, accepted - page.next)
            duplicated += page.duplicated
            reordered += page.reordered
            unexpected += max(0, page.next - accepted)
        return Verdict(
            self._attempted.total(),
            self._accepted.total(),
            delivered,
            lost,
            duplicated,
            reordered,
            unexpected,
        )
