"""Tells a connection that went silent from one that is slow.

Pure: no I/O, the clock is handed in. Its owner asks the broker something, again and again, and
notes the answer. A connection is dead when an answer is due and nothing has moved for a while: no
answer came, no content came in, and nothing of what is to be sent went out. So a thin link that
is busy with a large message is not cut, while heartbeats of a broker that no longer hears us save
nothing.
"""

from __future__ import annotations

_HEARTBEATS_BYTES = 64
"""More than the heartbeats (8 bytes each) that come between two looks."""


class Watchdog:
    """Watches one connection at a time. Not thread-safe: the connection's thread owns it.

    Args:
        patience_s: how long nothing may move while an answer is due, in seconds.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._moved_s = 0.0
        self._received = 0
        self._unsent = 0
        self.is_waiting = False
        """An answer is due."""

    def ask(self, now_s: float) -> None:
        """Note that the broker was asked something."""
        self.is_waiting = True
        self._moved_s = now_s

    def answer(self, now_s: float) -> None:
        """Note that the broker has answered."""
        self.is_waiting = False
        self._moved_s = now_s

    def note_progress(self, now_s: float) -> None:
        """Note any other sign that the broker hears us."""
        self._moved_s = now_s

    def silence_s(self, now_s: float) -> float:
        """Seconds since anything has moved."""
        return now_s - self._moved_s

    def is_dead(
        self, now_s: float, received: int, unsent: int, *, heartbeats_do: bool = False
    ) -> bool:
        """Look at the connection.

        Args:
            now_s: the time of a monotonic clock, in seconds.
            received: bytes received since the connection was made.
            unsent: bytes that are still to be sent.
            heartbeats_do: any byte received is a sign of life, though no answer may come.

        Returns:
            whether an answer is due and nothing has moved for too long.
        """
        expected = 0 if heartbeats_do else _HEARTBEATS_BYTES
        # Our own heartbeats go out, too, and at times just between two looks.
        if received - self._received > expected or self._unsent - unsent > _HEARTBEATS_BYTES:
            self._moved_s = now_s
        # A new connection begins to count anew.
        self._received, self._unsent = received, unsent
        waits = self.is_waiting or heartbeats_do
        return waits and now_s - self._moved_s >= self._patience_s
