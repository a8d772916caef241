"""Whether a record is new: neither a repetition of one that was taken, nor too old to be taken."""

from __future__ import annotations

from ..delivery.window import BOUNDS, Arrival, Bounds, Windows
from ..exceptions import MessageRejected
from ..wire.age import AgeCheck
from ..wire.record import Content

Key = tuple[bytes, str]
"""The epoch and the routing key of a message."""


class Freshness:
    """What a receiver remembers of the records of one purpose. For one thread.

    Args:
        age: judges when something was sent.
        most_senders: the most epochs and routing keys that are remembered.
        most_bytes: the most memory for them.
        bounds: how much is remembered of each.
    """

    def __init__(
        self, age: AgeCheck, most_senders: int, most_bytes: int, bounds: Bounds = BOUNDS
    ) -> None:
        self._age = age
        self._windows = Windows(max(2, most_senders), most_bytes, bounds=bounds)
        self.missing_at_rejected: int = 0
        """How many records the last one that `take` rejected has shown to be missing."""

    @property
    def gaps(self) -> int:
        """Records that were skipped and have not come since, or came too late."""
        return self._windows.gaps

    @property
    def forgotten(self) -> int:
        """Records that may be taken again, because there was no room to remember them."""
        return self._windows.forgotten

    def tell(self, key: Key, last: int) -> int:
        """Note what a sender says of its last number; returns how many are missing newly."""
        return self._windows.tell(key, last)

    def take(self, key: Key, content: Content) -> tuple[Arrival, int]:
        """Say what a record is; from now on it has come.

        A late one counts as handed over to nobody: if it was missing, it stays so.

        Returns:
            what it is, and how many records are missing that were not missing before.

        Raises:
            MessageRejected: it is too old, or from the future.
        """
        windows, sequence = self._windows, content.sequence
        arrival = windows.judge(key, sequence)
        if arrival is Arrival.DUPLICATE or arrival is Arrival.GIVEN_UP:
            return arrival, 0
        sent_ms = 0
        if self._age.is_on:
            sent_ms = self._age.steady_ms(content.sent_ms)
            is_known = windows.knows(key[0])
            try:
                self._age.check(content.sent_ms, 0 if is_known else windows.newest_evicted_ms)
            except MessageRejected:
                self.missing_at_rejected = 0
                if is_known:  # it was rejected, and so is not missing
                    self.missing_at_rejected = windows.mark(key, sequence, sent_ms)
                raise
        if arrival is Arrival.LATE:
            return arrival, windows.refuse(key, sequence, sent_ms)
        return arrival, windows.mark(key, sequence, sent_ms)

    def take_at_any_time(self, key: Key, content: Content) -> Arrival:
        """Do the same whenever it was sent, for what does no harm when it is repeated."""
        arrival = self._windows.judge(key, content.sequence)
        self._windows.mark(key, content.sequence, 0)
        return arrival

    def knows(self, epoch: bytes) -> bool:
        """Tell whether anything of an epoch was taken, and is not forgotten."""
        return self._windows.knows(epoch)

    def counts(self, key: Key) -> bool:
        """Tell whether it is known from which number on events are missing, if they do not come."""
        return self._windows.counts(key)
