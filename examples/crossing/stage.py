"""One process of the demo: runs one chart, and keeps the ledger of its events.

Started by ``demo.py`` with a chart's module and an open connection, on which it takes commands and
answers each. When the connection ends because the demo died, so does this process.
The charts know nothing of this module: it listens at their ``transmit`` and ``dispatch``.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

from miros import Event

Entry = tuple[str, Any]
"""The name of an event's signal, and its payload."""


class Ledger:
    """What a chart has told the others, and every event it has handled, each once."""

    def __init__(self, chart: Any) -> None:
        self.told: list[Entry] = []
        self.handled: list[Entry] = []
        # By identity: a deferred event is handled again when it is recalled, and it is the same.
        self._events: dict[int, Event] = {}
        self._changed = threading.Condition()
        self._transmit, self._dispatch = chart.transmit, chart.dispatch
        chart.transmit, chart.dispatch = self._on_transmit, self._on_dispatch

    def wait_until_handled(self, entries: list[Entry], timeout: float) -> bool:
        """Wait until the chart has handled all of these events."""
        wanted = Counter(entries)
        with self._changed:
            return self._changed.wait_for(lambda: wanted <= Counter(self.handled), timeout)

    def _on_transmit(self, event: Event) -> None:
        self._transmit(event)  # raises if it was not accepted; then it is not noted
        self.told.append((event.signal_name, event.payload))

    def _on_dispatch(self, e: Event) -> None:
        self._dispatch(e)
        with self._changed:
            if id(e) not in self._events:
                self._events[id(e)] = e
                self.handled.append((e.signal_name, e.payload))
                self._changed.notify_all()


class Stage:
    """Each public method is a command of the demo."""

    def __init__(self, module: str) -> None:
        self._make = importlib.import_module(module).make

    def start(self, network: dict[str, Any], peers: int, timeout: float) -> bool:
        """Start the chart; returns whether it has reached all brokers."""
        self._chart, first_state = self._make(**network)
        self._ledger = Ledger(self._chart)
        self._chart.enable_snoop_trace()
        self._chart.start_at(first_state)
        reached: bool = self._chart.nets.wait_for_peers(peers, timeout)
        return reached

    def post(self, signal: str) -> None:
        """Post an event to this chart, from its own process."""
        self._chart.post_fifo(Event(signal=signal))

    def wait_until_handled(self, entries: list[Entry], timeout: float) -> bool:
        """Wait until the chart has handled all of these events."""
        return self._ledger.wait_until_handled(entries, timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until the brokers have all that was transmitted."""
        flushed: bool = self._chart.nets.flush(timeout)
        return flushed

    def told(self) -> list[Entry]:
        """What this chart has transmitted."""
        return self._ledger.told

    def handled(self) -> list[Entry]:
        """What this chart has handled, the events of its own timers included."""
        return self._ledger.handled

    def stop(self) -> None:
        """Stop the chart."""
        self._chart.stop()


def main(module: str, descriptor: str) -> None:
    """Take commands, until the chart is stopped or the demo is gone."""
    commands = Connection(int(descriptor))
    try:
        stage = Stage(module)
        name = ""
        while name != "stop":
            name, *arguments = commands.recv()
            commands.send(getattr(stage, name)(*arguments))
    except (EOFError, OSError):
        os._exit(1)  # the demo is gone, and its brokers with it: there is nothing to finish


if __name__ == "__main__":
    main(*sys.argv[1:])
