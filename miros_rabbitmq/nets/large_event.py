"""An event from the network that takes so much memory that its bytes count, not only its number."""

from __future__ import annotations

from miros import Event


class LargeEvent(Event):  # type: ignore[misc]  # miros has no type hints
    """An event that knows how much memory it takes, so that queues of events can be bounded.

    Args:
        event: has its signal and payload.
        memory: about how many bytes of memory they take.
    """

    def __init__(self, event: Event, memory: int) -> None:
        super().__init__(signal=event.signal_name, payload=event.payload)
        self.memory = memory
