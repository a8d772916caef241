"""Whether a queue at a broker is nearly full, from what the broker says now and then. Pure."""

from __future__ import annotations

NEAR, FAR = 0.75, 0.5
"""A queue that holds more than the first share of its limit is nearly full, until it holds less
than the second."""


class Filling:
    """How full a queue is.

    Args:
        limit_bytes: beyond it, the broker drops the oldest messages.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.messages: int = 0
        """How many messages the queue held when the broker was last asked."""
        self.bytes: int = 0
        """About how many bytes they have, at most `limit_bytes`."""
        self.grows_by: float = 0.0
        """By how many messages a second it has grown since the broker was asked before."""
        self.is_near: bool = False
        """Whether it is nearly full."""
        self._asked_s: float | None = None

    def note(self, messages: int, mean_bytes: float, now_s: float) -> bool:
        """Note what the broker says.

        Args:
            messages: how many messages are in the queue.
            mean_bytes: the mean size of the messages that came out of it lately; 0 if unknown. They
                may have been larger than those that are in it, which are never more than its limit.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            whether `is_near` has changed.
        """
        if self._asked_s is not None and now_s > self._asked_s:
            self.grows_by = (messages - self.messages) / (now_s - self._asked_s)
        self._asked_s = now_s
        self.messages = messages
        self.bytes = min(self.limit_bytes, int(messages * mean_bytes))
        was_near = self.is_near
        self.is_near = self.bytes > self.limit_bytes * (FAR if was_near else NEAR)
        return self.is_near != was_near

    @property
    def full_in_s(self) -> float | None:
        """In how many seconds it is full if it grows on as before; `None` if it does not grow."""
        if self.grows_by <= 0 or not self.bytes:
            return None
        per_s = self.grows_by * self.bytes / self.messages
        return max(0.0, (self.limit_bytes - self.bytes) / per_s)
