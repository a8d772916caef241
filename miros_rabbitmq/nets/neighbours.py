"""Whether other charts listen at this node's own broker.

What a chart transmits goes to its own broker, too, as other charts may listen there. Mostly none
does: then these copies come back to their sender alone, and as they take as much work as those
that somebody waits for, they are sent together and without haste. So charts tell their neighbours
that they are there. It is the haste that depends on it and never whether something is sent: an
announcement that is lost, late or forged costs some milliseconds.

Pure; the clock is handed in.
"""

from __future__ import annotations

from typing import Any

from ..wire.announcement import announce_listener, asks

_FORGOTTEN_AFTER = 3
"""A neighbour is gone when its announcement has failed to come this often."""

_ANSWER_INTERVAL_S = 0.2
"""Between two answers: charts that start together know of each other by their questions."""


class Neighbours:
    """What one node knows of the others at its broker, and what it tells them.

    `hear` is for the consumers' thread and `announcement` for that of the publishers.

    Args:
        announce_s: how often each tells of itself, in seconds.
    """

    def __init__(self, announce_s: float) -> None:
        self._forget_s = _FORGOTTEN_AFTER * announce_s
        self._heard_s: float | None = None
        self._answered_s: float | None = None

    def are_there(self, now_s: float) -> bool:
        """Tell whether one was heard lately; ``now_s`` is a time of `time.monotonic`."""
        heard_s = self._heard_s
        return heard_s is not None and now_s - heard_s < self._forget_s

    def announcement(self, now_s: float) -> Any:
        """What to tell the others now; it asks for an answer where none is known."""
        return announce_listener(asks=not self.are_there(now_s))

    def hear(self, announcement: Any, now_s: float) -> bool:
        """Take what a neighbour says of itself.

        Returns:
            whether it is to be answered.
        """
        self._heard_s = now_s
        if not asks(announcement):
            return False
        if self._answered_s is not None and now_s - self._answered_s < _ANSWER_INTERVAL_S:
            return False
        self._answered_s = now_s
        return True
