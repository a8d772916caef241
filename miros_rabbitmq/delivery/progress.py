"""Whether something that handles events one by one gets on; and when to say that it does not.

Pure: the clock is handed in. To know when a handler began would cost time for each event. Instead,
somebody looks about once a second while events wait: a handler that has counted no further for some
seconds is stuck.
"""

from __future__ import annotations

import enum

_MOST_GAP_S = 2.0
"""The time between two looks counts up to this: a process that stood still itself, or looked at
nothing because nothing waited, does not count as time in which the handler was stuck."""

_SAY_AGAIN_S = (60.0, 600.0)
"""How long after it was said it is said again; the last holds from then on."""

_CALM_S = 600.0
"""After so long without trouble, the next one is said at once, like the first."""


class Verdict(enum.Enum):
    """What a look finds."""

    FINE = "it gets on, or nothing waits for it"
    STUCK = "it has just become stuck"
    STILL = "it is still stuck"
    OVER = "it was stuck, and gets on again"


class Progress:
    """Looks at a counter that goes up with each event that something begins to handle.

    Args:
        stuck_after_s: seconds without progress, while events wait, after which it is stuck.
    """

    def __init__(self, stuck_after_s: float) -> None:
        self.stuck_s: float = 0.0
        """For at least so many seconds it has not got on; after `Verdict.OVER`, it had not."""
        self.is_stuck: bool = False
        """Whether that is too long."""
        self.begun: int = -1
        """The counter at the last look."""
        self._stuck_after_s = stuck_after_s
        self._looked_s = 0.0
        self._for_s = 0.0

    def look(self, begun: int, *, waits: bool, now_s: float) -> Verdict:
        """Look at the counter.

        Args:
            begun: how many events it has begun to handle.
            waits: whether further events wait for it.
            now_s: the time of a monotonic clock, in seconds.
        """
        gap_s = min(now_s - self._looked_s, _MOST_GAP_S)
        self._looked_s = now_s
        if begun != self.begun:
            self.begun = begun
            was_stuck, self.is_stuck = self.is_stuck, False
            self.stuck_s, self._for_s = self._for_s + gap_s, 0.0
            return Verdict.OVER if was_stuck else Verdict.FINE
        self._for_s = self._for_s + gap_s if waits or self.is_stuck else 0.0
        self.stuck_s = self._for_s
        if self.is_stuck:
            return Verdict.STILL
        self.is_stuck = self._for_s >= self._stuck_after_s
        return Verdict.STUCK if self.is_stuck else Verdict.FINE


class Repetition:
    """When to say something that lasts or comes again and again: ever more seldom."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._step = 0
        self._over_s: float | None = None
        self._is_said = False

    def begin(self, now_s: float) -> bool:
        """Note that it has begun; tells whether to say so now."""
        if self._over_s is None or now_s - self._over_s >= _CALM_S:
            self._step = 0
            self._next_s = now_s
        return self.still(now_s)

    def still(self, now_s: float) -> bool:
        """Tell whether to say now that it lasts."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _SAY_AGAIN_S[min(self._step, len(_SAY_AGAIN_S) - 1)]
        self._step += 1
        self._is_said = True
        return True

    def over(self, now_s: float) -> bool:
        """Note that it is over; tells whether to say so, as its beginning was said."""
        self._over_s = now_s
        was_said, self._is_said = self._is_said, False
        return was_said
