"""Decides which of many equal losses are worth a line in the log: the first of each burst.

Pure: the time is handed in.
"""

from __future__ import annotations

import math

_INTERVAL_S = 60.0
"""A line is said at most once in this time."""


class Bursts:
    """Losses of one kind."""

    def __init__(self) -> None:
        self._said_s = -math.inf
        self._unsaid = 0

    def note(self, events: int, now_s: float) -> int | None:
        """Note lost events.

        Args:
            events: how many.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            how many were lost before these and since the last line, if there should be a line now.
        """
        if now_s - self._said_s < _INTERVAL_S:
            self._unsaid += events
            return None
        self._said_s = now_s
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
