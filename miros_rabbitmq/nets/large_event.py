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
        # miros's constructor would add the signal to its registry.
        for name, value in vars(event).items():
            setattr(self, name, value)
        self.memory = memory
