"""Events from the network, and how much memory they take, so that queues of them can be bounded."""

from __future__ import annotations

from miros import Event

from ..wire.memory import SMALL_MOST_BYTES, memory_of


class RemoteEvent(Event):  # type: ignore[misc]  # miros has no type hints
    """An event that came from the network. It is like any other, but others chose its payload."""

    memory: int | None = None
    """About how many bytes of memory it takes, if that is known."""


class LargeEvent(RemoteEvent):
    """An event that takes so much memory that its bytes count everywhere, not only its number.

    Args:
        event: has its signal and payload.
        memory: about how many bytes of memory they take.
    """

    memory: int

    def __init__(self, event: Event, memory: int) -> None:
        # miros's constructor would add the signal to its registry.
        for name, value in vars(event).items():
            setattr(self, name, value)
        self.memory = memory


def memory_of_remote(event: object) -> int:
    """About how many bytes of memory an event from the network takes; 0 for any other.

    A small one is measured at the first call, which takes about as long as to deserialize it. For
    one thread at a time.
    """
    if not isinstance(event, RemoteEvent):
        return 0
    if event.memory is None:
        event.memory = memory_of(event.payload, SMALL_MOST_BYTES)
    return event.memory
