"""A chart that defers what comes from the network, and recalls it later."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import DropReason, LocalBroker, NetworkedActiveObject

from ..helpers import wait_until
from .charts import arguments_for, make_active_object, make_factory, running

KEY = Fernet.generate_key()
COUNT = 3_000
for name in ("NUMBER", "NOW"):
    signals.append(name)


class Busy:
    """Defers numbers until it is told that the time has come."""

    def __init__(self) -> None:
        self.is_busy = True
        self.heard: list[int] = []

    def handle(self, chart: Any, e: Event) -> None:
        if e.signal_name == "NOW":
            self.is_busy = False
            while chart.recall() is not None:
                pass
        elif self.is_busy:
            chart.defer(e)
        else:
            self.heard.append(e.payload)


@spy_on
def working(chart: Any, e: Event) -> Any:
    """The one state of the active object."""
    if e.signal in (signals.NUMBER, signals.NOW):
        chart.busy.handle(chart, e)
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@pytest.mark.parametrize("kind", ["active object", "factory"])
def test_thousands_of_deferred_events_are_recalled_in_order(
    broker_a: LocalBroker, kind: str
) -> None:
    network = arguments_for(broker_a, key=KEY)
    busy = Busy()
    chart: Any
    if kind == "factory":
        chart, record = make_factory("busy", ["NUMBER", "NOW"], **network)
        record.note = lambda event: busy.handle(chart, event)  # type: ignore[method-assign]
    else:
        chart = NetworkedActiveObject("busy", **network)
        chart.busy = busy
    sender, _ = make_active_object("sender", **network)
    with running(chart, state=working), running(sender):
        for number in range(COUNT):
            sender.transmit(Event(signal="NUMBER", payload=number))
        sender.transmit(Event(signal="NOW"))
        wait_until(lambda: len(busy.heard) >= COUNT, 60, lambda: str(len(busy.heard)))
        assert busy.heard == list(range(COUNT))
        dropped = chart.nets.stats().mesh.dropped
        assert not dropped[DropReason.DEFERRED]
        assert not dropped[DropReason.FIFO]
