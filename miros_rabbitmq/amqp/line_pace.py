"""How often a trouble that comes and goes is worth a warning.

Whoever poses as a broker can close connections and block publishers as often as he likes. Pure;
the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable

_AT_ONCE = 5
_INTERVAL_S = 60.0


class LinePace:
    """Lets a few warnings of one kind pass at once, and then one in each minute.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(_AT_ONCE)
        self._since_s = clock()

    def may(self) -> bool:
        """Whether one more may pass; if so, it counts."""
        now_s = self._clock()
        self._left = min(float(_AT_ONCE), self._left + (now_s - self._since_s) / _INTERVAL_S)
        self._since_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
