"""Which messages of which sender a receiver has seen: the receiver's half of `outbox`.

Pure: no I/O, no clock, no thread.
"""

from __future__ import annotations

import enum
from collections import OrderedDict


class Arrival(enum.Enum):
    """What a sequence number says about an envelope."""

    NEW = "the next, or after a gap"
    LATE = "fills a gap that was counted"
    DUPLICATE = "was here before"


class Inbox:
    """Remembers which envelopes of which sender have come already.

    A sender sends in order, and after a lost connection again in order from the first unconfirmed
    envelope. So one number for each sender tells new from old, and the skipped numbers tell what is
    missing. A sender that is new to this receiver starts at whatever number comes first.

    Not thread-safe: its owner locks. Give it authenticated numbers only.

    Args:
        max_senders: the most (sender, epoch) pairs that are remembered; beyond it, the pair heard
            least recently is forgotten.
        max_missing: the most skipped numbers that are remembered for each pair, so that their
            envelopes may still come late.
    """

    def __init__(self, max_senders: int = 4_096, max_missing: int = 1_024) -> None:
        self._max_senders = max_senders
        self._max_missing = max_missing
        self._senders: OrderedDict[tuple[str, int], _Heard] = OrderedDict()
        self.gaps = 0
        """Envelopes that were skipped and have not come since."""

    def arrive(self, sender: str, epoch: int, sequence: int) -> Arrival:
        """Note an envelope and say whether it is new."""
        key = (sender, epoch)
        heard = self._senders.get(key)
        if heard is None:
            self._senders[key] = _Heard(sequence)
            if len(self._senders) > self._max_senders:
                self._senders.popitem(last=False)
            return Arrival.NEW
        self._senders.move_to_end(key)
        if sequence == heard.last + 1:
            heard.last = sequence
            return Arrival.NEW
        if sequence > heard.last:
            self.gaps += sequence - heard.last - 1
            # Of a wide gap, remember the newest numbers: the oldest are the least likely to come.
            first = max(heard.last + 1, sequence - self._max_missing)
            heard.missing.update(dict.fromkeys(range(first, sequence)))
            while len(heard.missing) > self._max_missing:
                heard.missing.pop(next(iter(heard.missing)))
            heard.last = sequence
            return Arrival.NEW
        if sequence in heard.missing:
            del heard.missing[sequence]
            self.gaps -= 1
            return Arrival.LATE
        return Arrival.DUPLICATE


class _Heard:
    """What one sender sent so far in one epoch."""

    __slots__ = ("last", "missing")

    def __init__(self, first: int) -> None:
        self.last = first
        self.missing: dict[int, None] = {}
