"""How long a session waits before it tries its broker again.

Pure; the clock is handed in. Exponential back-off with jitter, as in M. Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter").
"""

from __future__ import annotations

import random

from ..limits import Limits

_STABLE_S = 2.0
"""A connection that was ready this long is a good one: after it, the waits start anew."""


class Backoff:
    """The waits of one session; not thread-safe.

    Args:
        limits: the shortest wait, the longest, and that after a refusal.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._attempts = 0
        self._short_lived = 0
        self._ready_since_s: float | None = None

    @property
    def is_short_lived(self) -> bool:
        """The last connection was lost at once: a sign that the broker is there means nothing."""
        return self._short_lived > 0

    def succeed(self, now_s: float) -> None:
        """Note that a connection is ready."""
        self._ready_since_s = now_s

    def fail(self, now_s: float, *, refused: bool) -> float:
        """Note that a connection was lost, or did not come about.

        Args:
            now_s: the time of a monotonic clock, in seconds.
            refused: the broker does not take our user, password or vhost.

        Returns:
            seconds to wait.
        """
        ready_since_s, self._ready_since_s = self._ready_since_s, None
        if ready_since_s is not None:
            # An outage begins with a short wait, but not those of a broker that drops us at once
            # again and again.
            stable = now_s - ready_since_s > _STABLE_S
            self._short_lived = 0 if stable else self._short_lived + 1
            self._attempts = self._short_lived
        limits = self._limits
        if refused:
            return limits.refused_retry_s
        doublings = min(self._attempts, 30)
        self._attempts += 1
        delay_s = min(limits.reconnect_max_s, limits.reconnect_min_s * 2.0**doublings)
        # Spread, so that the nodes of a system do not all come back in the same moment.
        return delay_s * random.uniform(0.5, 1.0)
