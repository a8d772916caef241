"""Whether something is too old to be taken, for receivers whose clocks agree with the senders'.

Without ``max_age_s`` nothing is refused for its time: a machine without a clock boots in 1970, and
clocks jump. With it, three kinds of messages are refused that somebody has recorded: old ones,
those from before this node began to listen, and those of senders that this node has forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..exceptions import MessageRejected, RejectReason

_MOST_SKEW_S = 60.0
"""How far two clocks may differ, but never by more than ``max_age_s``."""

_BEFORE_LISTENING = 0.25
"""The part of ``max_age_s`` that is granted to what was sent before the node listened, up to
`_MOST_SKEW_S`. It is less than the whole, because what was sent then may have been recorded; and a
clock that differs by more costs only the first moments after a start."""

_ZERO_MS = 10**15
"""Added to times of the steady clock, so that none of them is below zero."""


def steady_s() -> float:
    """A clock in seconds that never jumps and goes on while the machine sleeps, if there is one."""
    return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class AgeCheck:
    """Judges the time at which something was sent.

    Args:
        max_age_s: the greatest age in seconds, or `None` for any.
        now: the wall clock, in seconds since 1970.
        steady: a clock that never jumps, in seconds.
    """

    def __init__(
        self,
        max_age_s: float | None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        self.is_on: bool = max_age_s is not None
        self._max_age_s = max_age_s or 0.0
        self._skew_s = min(_MOST_SKEW_S, self._max_age_s)
        self._before_s = min(_MOST_SKEW_S, self._max_age_s * _BEFORE_LISTENING)
        self._now = now
        self._steady = steady
        # By the clock that never jumps, so that a wall clock that is set later changes nothing.
        self._began_s: float | None = None

    def begin(self) -> None:
        """Note that the node listens from now on; only the first call counts."""
        if self._began_s is None:
            self._began_s = self._steady()

    def steady_ms(self, sent_ms: int) -> int:
        """Return when something was sent, by the clock that never jumps, but no later than now.

        What is remembered in this way keeps its age when the wall clock is set, and shuts out
        nobody once it is forgotten. Without ``max_age_s``, this is 0.
        """
        if not self.is_on:
            return 0
        age_ms = max(0.0, self._now() * 1000 - sent_ms)
        return _ZERO_MS + int(self._steady() * 1000 - age_ms)

    def check(self, sent_ms: int, forgotten_ms: int = 0) -> None:
        """Check a time of sending; does nothing without ``max_age_s``.

        Args:
            sent_ms: when it was sent, in milliseconds since 1970.
            forgotten_ms: for a sender that is not known: when the newest message was sent of all
                senders that were forgotten, as `steady_ms` gives it; 0 for none.

        Raises:
            MessageRejected: it is too old, or from the future.
        """
        if not self.is_on:
            return
        age_s = self._now() - sent_ms / 1000
        if age_s > self._max_age_s:
            raise MessageRejected(
                RejectReason.TOO_OLD,
                f"{age_s:,.0f} s old: it was delayed or replayed, or the sender's clock is behind",
            )
        if age_s < -self._skew_s:
            raise MessageRejected(
                RejectReason.CLOCK_SKEW,
                f"the sender's clock is {-age_s:,.0f} s ahead of this one: let both follow NTP",
            )
        if self._began_s is not None:
            early_s = age_s - (self._steady() - self._began_s)
            if early_s > self._before_s:
                raise MessageRejected(
                    RejectReason.TOO_OLD,
                    f"it was sent {early_s:,.1f} s before this node began to listen, where "
                    f"{self._before_s:g} s are granted, or the sender's clock is behind",
                    "before the start",
                )
        if forgotten_ms and self.steady_ms(sent_ms) <= forgotten_ms:
            raise MessageRejected(
                RejectReason.TOO_OLD,
                "it is of a sender that is not known here, and may be a repetition from one that "
                "was forgotten",
                "forgotten",
            )
