"""Whether other charts listen at this node's own broker.

A chart transmits to its own broker, too, because other charts may listen there. Mostly no other
chart does: then only the sender itself gets these copies back, and they cost as much work as copies
that somebody waits for. So they are sent together, without haste, until another chart announces
that it listens there. Only the haste depends on these announcements, never whether something is
sent: an announcement that is lost, late or forged costs some milliseconds.

Announcements also say to which routing keys a chart listens, so that each knows whether anybody
listens to its own.

Pure; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable

from ..wire.notice import Notice, announce_listener, announced_pattern, asks

_FORGOTTEN_AFTER = 3
"""A neighbour counts as gone when so many of its announcements have failed to come."""

_ANSWER_INTERVAL_S = 0.2
"""The least time between two answers. Charts that start together ask together, and hear of each
other from the questions alone."""


class Neighbours:
    """What one node knows of the others at its broker, and what it tells them.

    `hear` is called in the consumers' thread, and `announcement` in the publishers' thread.

    Args:
        announce_s: seconds between two announcements of each node.
        pattern: the routing keys that this node listens to; empty to leave that open.
        concerns: tells whether what this node sends goes by a pattern.
    """

    def __init__(
        self,
        announce_s: float,
        pattern: str = "",
        concerns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._forget_s = _FORGOTTEN_AFTER * announce_s
        self._pattern = pattern
        self._concerns = concerns
        self._heard_s: float | None = None
        self._listener_heard_s: float | None = None
        self._answered_s: float | None = None

    def are_there(self, now_s: float) -> bool:
        """Tell whether a neighbour was heard lately; ``now_s`` is a time of `time.monotonic`."""
        return self._is_lately(self._heard_s, now_s)

    def listen(self, now_s: float) -> bool:
        """Tell whether a neighbour that listens to what this node sends was heard lately."""
        return self._is_lately(self._listener_heard_s, now_s)

    def _is_lately(self, heard_s: float | None, now_s: float) -> bool:
        return heard_s is not None and now_s - heard_s < self._forget_s

    def announcement(self, now_s: float) -> Notice:
        """The announcement to send now; it asks for an answer while no neighbour is known."""
        return announce_listener(asks=not self.are_there(now_s), pattern=self._pattern)

    def hear(self, announcement: Notice, now_s: float) -> bool:
        """Take the announcement of a neighbour.

        Returns:
            whether to answer it.
        """
        self._heard_s = now_s
        pattern = announced_pattern(announcement)
        if pattern is None or self._concerns(pattern):
            self._listener_heard_s = now_s
        if not asks(announcement):
            return False
        if self._answered_s is not None and now_s - self._answered_s < _ANSWER_INTERVAL_S:
            return False
        self._answered_s = now_s
        return True
