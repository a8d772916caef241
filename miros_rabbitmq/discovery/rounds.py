"""When the next round of a search is due.

A round comes at intervals, at once when this machine has another address, for a node that has
joined the search, and before its time where descriptors, threads or memory were short.

Pure; the clock is handed in. Whoever owns it guards it.
"""

from __future__ import annotations

import math

FRESH_S = 10.0
"""When a node has come, there is another round so long after the last, or at once if that is over.
The node does not wait for it, and many charts that start one after the other need not search each
for itself."""

_STARVED_S, _STARVED_MOST_S = 2.0, 60.0
"""The first and the longest pause before another round, where something was short in the last."""


class Rounds:
    """The times of the rounds of one search. All times are of `time.monotonic`.

    Args:
        interval_s: seconds from one round to the next; 0 for one round alone.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s or math.inf
        self._longest_pause_s = interval_s or _STARVED_MOST_S
        # The first one comes at once.
        self._next_s = -math.inf
        self._last_s: float | None = None
        self._wanted_s = math.inf
        # Nothing is short while this is 0.
        self._pause_s = 0.0
        self._pauses_since_s = 0.0
        self._has_starved = False  # since the last round began

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is time for a round; `begin` is then to be called."""
        return self.wait_s(now_s) == 0 or self.is_wanted(now_s)

    def is_wanted(self, now_s: float) -> bool:
        """Tell whether it is time for a round for a node that has joined since the last."""
        return now_s >= self._wanted_s

    def wait_s(self, now_s: float) -> float:
        """Say how long it is at most until the next one, unless a node joins."""
        next_s = self._next_s
        if self._pause_s:
            next_s = min(next_s, self._pauses_since_s + self._pause_s)
        return max(0.0, next_s - now_s)

    def begin(self, now_s: float) -> None:
        """Note that a round begins."""
        self._last_s = self._pauses_since_s = now_s
        self._next_s, self._wanted_s = now_s + self._interval_s, math.inf
        self._has_starved = False

    def hasten(self, now_s: float) -> None:
        """Have a round now."""
        self._next_s = now_s

    def join(self) -> None:
        """Note that a node has joined the search: the first round is for all that come before."""
        if self._last_s is not None:
            self._wanted_s = min(self._wanted_s, self._last_s + FRESH_S)

    def starve(self, now_s: float) -> bool:
        """Note that something was short: the next round comes soon, later and later.

        What is short again before that round does not put it off.

        Returns:
            whether this is the first time since `recover`.
        """
        if self._has_starved and self._pause_s:
            return False
        is_first = not self._pause_s
        self._has_starved = True
        self._pause_s = min(self._longest_pause_s, 2 * self._pause_s or _STARVED_S)
        self._pauses_since_s = now_s
        return is_first

    def recover(self) -> bool:
        """Note that a round has succeeded; tells whether something was short before."""
        was_short, self._pause_s = self._pause_s > 0, 0.0
        return was_short
