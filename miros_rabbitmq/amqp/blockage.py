"""Whether a broker lets nobody publish now, and what the log says of that."""

from __future__ import annotations

from collections.abc import Callable

from ..logs import RelayedLogger
from .line_pace import LinePace

logger: RelayedLogger = RelayedLogger(__name__)


class Blockage:
    """What a broker has said with ``connection.blocked`` on one link. For one thread.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.reason: str | None = None
        """Why nobody may publish; `None` while all may."""
        self._pace = LinePace(clock)
        self._is_said = False

    def begin(self, reason: str, link: str) -> None:
        """Note that the broker lets nobody publish.

        Args:
            reason: why, fit to be shown.
            link: the link's name, for the log.
        """
        self.reason = reason
        self._is_said = self._pace.may()
        if self._is_said:
            logger.warning("%s: the broker lets nobody publish: %s", link, reason)

    def end(self, link: str) -> None:
        """Note that the broker lets all publish again."""
        if self._is_said:
            logger.warning("%s: the broker lets us publish again", link)
        self.forget()

    def forget(self) -> None:
        """Note that this was another connection."""
        self.reason = None
