"""When a node's announcement goes along with its events.

Whoever hears an event may want to answer, and has to know where its sender listens. It may have
begun to listen after the sender announced itself. So while a node sends events, it announces itself
to each broker that gets them: with the first event, and then once a second at most. This is so for
ever, because the sender cannot know who is new at a broker.

Pure; the clock is handed in.
"""

from __future__ import annotations

LEAST_S = 1.0
"""The least seconds from one announcement to the next that goes along with events."""


class Companion:
    """When one broker gets the announcement. For one thread."""

    def __init__(self) -> None:
        self._sent = 0
        self._told_s: float | None = None

    def is_due(self, sent: int, now_s: float) -> bool:
        """Tell whether to announce now: events were sent since, and it is time to.

        To be asked while events are sent, and for longer than `LEAST_S` after the last.

        Args:
            sent: how many events the node has sent.
            now_s: a time of `time.monotonic`.
        """
        if sent == self._sent:
            return False
        return self._told_s is None or now_s - self._told_s >= LEAST_S

    def note_told(self, sent: int, now_s: float) -> None:
        """Note that the node was announced when it had sent so many events or more."""
        self._sent = sent
        self._told_s = now_s
