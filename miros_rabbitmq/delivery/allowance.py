"""How many bytes may be under way to one broker: about what it confirms within a second.

A limit in messages fits a fast network: on a link of 2 kB/s, 32 messages would take half an hour,
and what is sent behind them as long. So what is under way is limited by time. One message at a time
is timed from its sending to its confirm, as TCP times round trips (V. Jacobson, "Congestion
Avoidance and Control", SIGCOMM 1988). What it takes has two parts: the time that even a small
message takes (the delay of the link, the broker's disk), and the time for the bytes that wait in
front of it. Only the second is limited, as in TCP Vegas (L. Brakmo and L. Peterson, IEEE JSAC 13,
1995): a link of long delay, or a slow disk, may have much under way.

Pure; the clock is handed in. Not thread-safe: its owner locks.
"""

from __future__ import annotations

from collections.abc import Callable

LEAST_BYTES = 2_048
"""The least that may be under way. A link of 2 kB/s takes a second for it, and on such a link the
frames around a message of half of it cost 10 %."""

START_BYTES = 16_384
"""What may be under way while nothing is known of a link: 8 s at 2 kB/s, once; and little more than
a new TCP connection sends before it waits for an answer (10 segments, RFC 6928)."""

QUEUED_S = 1.0
"""How long a message may wait behind others that are under way."""

_GROWTH = 4
"""What may be under way is at most so many times what was. Links with token buckets let the first
kilobytes through at once, and say nothing of the rest."""

_SLOWER = 4
"""After so many small messages that took longer than was known, a message takes longer alone."""

_ALONE_S = 1.0
"""What a message takes alone, as long as nothing is known."""

_SAME = 1.25
"""A message that took at most so many times as long as one alone did not wait behind others."""

_UNUSED_S = 1.0
"""What was not used for so long is halved, because the link may be another by now."""


class Allowance:
    """How much may be under way to one broker.

    Args:
        most_bytes: the most that may ever be under way.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, most_bytes: int, clock: Callable[[], float]) -> None:
        self._most_bytes = most_bytes
        self._least_bytes = min(LEAST_BYTES, most_bytes)
        self._start_bytes = min(START_BYTES, most_bytes)
        self._clock = clock
        self._alone_s = _ALONE_S  # what a message takes that does not wait behind others
        self._is_known = False
        self._slower_s: list[float] = []
        self._tag = 0  # of the message that is timed; 0 for none
        self._since_s = 0.0
        self._ahead = 0  # what was under way with it, itself included
        self._used_s = clock()
        self.bytes: int = self._start_bytes
        """How many may be under way now."""

    def begin_anew(self) -> None:
        """Note that what was under way is lost: the next connection may take another way."""
        self._tag = 0
        self._alone_s = _ALONE_S
        self._is_known = False
        self._slower_s.clear()
        self.bytes = self._start_bytes

    @property
    def is_overdue(self) -> bool:
        """The timed message takes too long: nothing more should go before it is confirmed."""
        return self._tag > 0 and self._clock() - self._since_s > self._alone_s + QUEUED_S

    def note_rest(self) -> bool:
        """Halve what was not used for a while, for each second.

        Returns:
            whether the allowance has changed.
        """
        if self.bytes <= self._start_bytes:
            return False
        now_s = self._clock()
        halvings = int((now_s - self._used_s) / _UNUSED_S)
        if halvings < 1:
            return False
        self.bytes = max(self._start_bytes, self.bytes >> min(halvings, 64))
        self._used_s = now_s
        return True

    def note_sent(self, tag: int, under_way: int) -> None:
        """Note that a message goes out.

        Args:
            tag: its delivery tag.
            under_way: all bytes that are under way, this message's included.
        """
        if _GROWTH * under_way <= self.bytes and self._is_known:
            self.note_rest()  # to time it would teach nothing
        elif self._tag == 0:
            self._tag, self._ahead, self._since_s = tag, under_way, self._clock()

    def note_confirmed(self, tag: int, *, multiple: bool = False) -> None:
        """Note that a message, or with ``multiple`` each up to it, is under way no more."""
        if self._tag == 0 or not (tag == self._tag or (multiple and tag > self._tag)):
            return
        now_s = self._clock()
        took_s = max(now_s - self._since_s, 1e-6)
        ahead, self._tag = self._ahead, 0
        alone_s = self._learn(took_s, ahead)
        fitting = ahead * (alone_s + QUEUED_S) / took_s
        if took_s > alone_s + QUEUED_S:
            self.bytes = max(self._least_bytes, min(int(fitting), self._most_bytes))
        else:
            if took_s <= _SAME * alone_s:
                fitting = max(fitting, 2.0 * ahead)
            proven = min(int(fitting), _GROWTH * ahead, self._most_bytes)
            self.bytes = max(self.bytes, proven)
        self._used_s = now_s

    def _learn(self, took_s: float, ahead: int) -> float:
        """Learn how long a message takes alone: no longer than any, and as long as small ones."""
        if took_s < self._alone_s:
            self._alone_s = took_s
            self._is_known = True
            self._slower_s.clear()
        elif ahead <= self._least_bytes:
            self._slower_s.append(took_s)
            if len(self._slower_s) == _SLOWER or not self._is_known:
                self._alone_s = min(self._slower_s)
                self._is_known = True
                self._slower_s.clear()
        return self._alone_s
