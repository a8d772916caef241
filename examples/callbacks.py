"""Receive callbacks: see what arrives before the chart does, and take over what a snoop shows.

It shows the three callbacks of a chart's constructor, each of which has a thread of its own:

``on_mesh_rx(event)``
    gets each event from the network *instead of* the chart. Here it is a porter, which counts the
    visitors, turns some away and posts the others to the chart. If it is slow, events wait for it
    and the chart goes on.
``on_trace_rx(name, line)``, ``on_spy_rx(name, line)``
    get the snoop lines of *other* charts, instead of the terminal. Own lines are still shown.

Run it with::

    python examples/callbacks.py

It boots a private RabbitMQ and runs two charts, a house and its visitors.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

VISITORS = ("a friend", "a salesman", "an aunt", "a salesman", "a neighbour")


class Porter:
    """Decides which events a chart gets. Called in a thread of its own, one event at a time."""

    def __init__(self) -> None:
        self.house: House
        self.turned_away = 0

    def on_mesh_rx(self, event: Event) -> None:
        """Hand an event on, or do not; it counts as received when this has returned."""
        if event.signal == signals.VISIT and event.payload == "a salesman":
            self.turned_away += 1
        else:
            self.house.post_fifo(event)  # what a chart without on_mesh_rx does with every event


class Observer:
    """Keeps what others show on the snoops. Each method is called in a thread of its own."""

    def __init__(self) -> None:
        self.traced: list[str] = []
        self.spied: list[str] = []
        self.has_traced_the_end = threading.Event()
        self.has_spied_the_end = threading.Event()

    def on_trace_rx(self, name: str, line: str) -> None:
        """Take a trace line of another chart."""
        self.traced.append(f"{name}: {line}")
        if "->gone" in line:
            self.has_traced_the_end.set()

    def on_spy_rx(self, name: str, line: str) -> None:
        """Take a spy line of another chart."""
        self.spied.append(f"{name} {line}")
        if line.startswith("<- Queued") and "visitors ENTRY_SIGNAL:gone" in self.spied:
            self.has_spied_the_end.set()


class House(NetworkedActiveObject):
    """A house with guests."""

    def __init__(self, **network: Any) -> None:
        super().__init__("house", **network)
        self.guests: list[str] = []
        self.has_ended = threading.Event()


@spy_on
def house_open(house: House, e: Event) -> Any:
    """The outer state: lets guests in, and out at the end."""
    status = return_status.UNHANDLED
    if e.signal == signals.VISIT:
        house.guests.append(e.payload)
        print(f"house: {e.payload} comes in", flush=True)
        status = house.trans(with_guests)
    elif e.signal == signals.THAT_IS_ALL:
        house.has_ended.set()
        status = return_status.HANDLED
    else:
        status, house.temp.fun = return_status.SUPER, house.top
    return status


@spy_on
def quiet(house: House, e: Event) -> Any:
    house.temp.fun = house_open
    return return_status.SUPER


@spy_on
def with_guests(house: House, e: Event) -> Any:
    house.temp.fun = house_open
    return return_status.SUPER


@spy_on
def on_the_way(visitors: NetworkedActiveObject, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.RING:
        for name in VISITORS:
            visitors.transmit(Event(signal=signals.VISIT, payload=name))
        visitors.transmit(Event(signal=signals.THAT_IS_ALL))
        status = visitors.trans(gone)
    else:
        status, visitors.temp.fun = return_status.SUPER, visitors.top
    return status


@spy_on
def gone(visitors: NetworkedActiveObject, e: Event) -> Any:
    visitors.temp.fun = visitors.top
    return return_status.SUPER


def main() -> int:
    """Let five visitors ring, of which the porter turns two away."""
    porter, observer = Porter(), Observer()
    with LocalBroker("127.0.0.2") as broker:
        network: dict[str, Any] = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "rabbit_host": str(broker.address),
            "addresses": [],
        }
        house = porter.house = House(on_mesh_rx=porter.on_mesh_rx, **network)
        visitors = NetworkedActiveObject("visitors", **network)
        watchman = NetworkedActiveObject(
            "watchman",
            rx_routing_key="nothing.but.snoops",  # no event of the mesh, which is for the house
            on_trace_rx=observer.on_trace_rx,
            on_spy_rx=observer.on_spy_rx,
            **network,
        )
        for chart in (watchman, visitors):
            chart.enable_snoop_trace()
            chart.enable_snoop_spy()
        with house, visitors, watchman:
            house.start_at(quiet)
            watchman.start_at(gone)
            visitors.start_at(on_the_way)
            visitors.post_fifo(Event(signal=signals.RING))
            awaited = house.has_ended, observer.has_traced_the_end, observer.has_spied_the_end
            has_ended = all(event.wait(20) for event in awaited)
    print(f"porter: turned away {porter.turned_away}")
    for line in observer.traced:
        print(f"watchman: {line}")
    print(f"watchman: {len(observer.spied)} lines of the spy")
    return 0 if has_ended else 1


if __name__ == "__main__":
    sys.exit(main())
