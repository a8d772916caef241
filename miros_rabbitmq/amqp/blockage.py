"""Whether a broker lets nobody publish now, and what the log says of that."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..logs import RelayedLogger

logger = RelayedLogger(__name__)

SAID_AGAIN_S = 1.0
"""It is logged at most once in this time: who poses as a broker can say so all the time."""


class Blockage:
    """What a broker has said with ``connection.blocked`` on one link. For one thread.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.reason: str | None = None
        """Why nobody may publish; `None` while all may."""
        self._clock = clock
        self._is_said = False
        self._said_s = -math.inf

    def begin(self, reason: str, link: str) -> None:
        """Note that the broker lets nobody publish.

        Args:
            reason: why, fit to be shown.
            link: the link's name, for the log.
        """
        self.reason = reason
        now_s = self._clock()
        self._is_said = now_s - self._said_s >= SAID_AGAIN_S
        if self._is_said:
            self._said_s = now_s
            logger.warning("%s: the broker lets nobody publish: %s", link, reason)

    def end(self, link: str) -> None:
        """Note that the broker lets all publish again."""
        if self._is_said:
            logger.warning("%s: the broker lets us publish again", link)
        self.forget()

    def forget(self) -> None:
        """Note that this was another connection."""
        self.reason = None
