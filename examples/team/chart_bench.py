"""A bench for charts: runs state functions in a test, without a thread, a network or a clock."""

from __future__ import annotations

from typing import Any

from miros import Event, Factory, HsmWithQueues


class Bench(Factory):  # type: ignore[misc]  # miros has no type hints
    """Stands in for a networked chart of either kind, and notes what its states do.

    ``told`` has what they have transmitted, and ``timers`` the period of each timer that runs, by
    the name of its signal.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[tuple[str, Any]] = []
        self.timers: dict[str, float] = {}

    def start_at(self, state: Any) -> None:
        HsmWithQueues.start_at(self, state)  # enters the state, and starts no thread

    def take(self, signal: str, payload: Any = None) -> str:
        """Handle an event and all that follow from it; returns the name of the state."""
        self.post_fifo(Event(signal=signal, payload=payload))
        self.complete_circuit()
        return str(self.state_name)

    def ring(self, signal: str) -> str:
        """Let a timer of one shot come to its end."""
        del self.timers[signal]
        return self.take(signal)

    # What the states call.

    def transmit(self, e: Event) -> None:
        self.told.append((e.signal_name, e.payload))

    def snoop_scribble(self, message: str) -> None:
        self.scribble(message)

    def post_fifo(self, e: Event, period: float | None = None, **how: Any) -> None:
        if period is None:
            HsmWithQueues.post_fifo(self, e)
        else:
            self.timers[e.signal_name] = period

    def cancel_events(self, e: Event) -> None:
        self.timers.pop(e.signal_name, None)
