"""What to do about messages that a broker refuses with ``basic.nack``.

There are two reasons for a nack. The process of a queue has crashed: sending again repairs that. Or
a queue that somebody has bound takes nothing more (``x-overflow: reject-publish``): then every
message is nacked though all other queues have it, and sending again only costs time. So a broker
gets a few attempts. When they are used up, its nacks count as refused at once for a while, and then
one attempt decides for the next while. A broker that nacks nothing for a while has all of them
again.

Pure: the time is handed in.
"""

from __future__ import annotations

import math

CALM_S = 60.0
"""How long nacks count as refused at once, and after how long without one it is over."""


class Nacks:
    """The nacks of one broker.

    Args:
        attempts: after how many nacks sending again is given up.
    """

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._left = attempts
        self._last_s = -math.inf
        self._retry_s = -math.inf
        self.is_refusing: bool = False
        """The attempts were used up, and the broker has nacked something in the last while."""

    def resends(self, now_s: float) -> bool:
        """Note a nack; returns whether what is under way is to be sent again.

        Args:
            now_s: the time of a monotonic clock, in seconds.
        """
        if now_s - self._last_s >= CALM_S:
            self._left = self._attempts
            self.is_refusing = False
        elif self.is_refusing and now_s >= self._retry_s:
            self._left = 1
            self._retry_s = math.inf
        self._last_s = now_s
        if self._left > 0:
            self._left -= 1
            return True
        if not self.is_refusing or self._retry_s == math.inf:
            self.is_refusing = True
            self._retry_s = now_s + CALM_S
        return False

    def ends(self, now_s: float) -> bool:
        """Tell whether the broker refuses no more, as it has nacked nothing for a while.

        To be asked while it `is_refusing`, such as at each confirm; it tells so once.
        """
        if not self.is_refusing or now_s - self._last_s < CALM_S:
            return False
        self.is_refusing = False
        return True
