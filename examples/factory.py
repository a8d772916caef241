"""A room and its heater, on two brokers: callbacks on ``NetworkedFactory``.

The room transmits its temperature, the heater switches itself on and off and transmits that, and
the room warms or cools. By itself, this program boots two private RabbitMQ nodes, runs a chart at
each, and ends when the heater was on twice::

    python examples/factory.py

On real brokers it runs one of the two; start the other on another machine or in another terminal::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...     # the same on both
    python examples/factory.py --role room   --host 192.168.1.71 --addresses 192.168.1.72
    python examples/factory.py --role heater --host 192.168.1.72 --addresses 192.168.1.71
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals

from miros_rabbitmq import LocalBroker, NetworkedFactory

COLD, WARM = 19.0, 21.0  # degrees Celsius
STEP_S = 0.1
"""The time between two measurements, in seconds."""


class Room(NetworkedFactory):
    """Knows one state, and its temperature."""

    def __init__(self, **network: Any) -> None:
        super().__init__("room", **network)
        self.celsius = WARM
        self.change = -0.4  # degrees a step
        self.state_on_start = (
            self.create(state="measuring")
            .catch(signals.ENTRY_SIGNAL, measuring_entry)
            .catch(signals.MEASURE, measuring_measure)
            .catch(signals.HEATING, measuring_heating)
            .to_method()
        )
        self.nest(self.state_on_start, parent=None)


def measuring_entry(room: Room, e: Event) -> Any:
    room.post_fifo(Event(signal=signals.MEASURE), period=STEP_S)
    return return_status.HANDLED


def measuring_measure(room: Room, e: Event) -> Any:
    room.celsius += room.change
    reading = {"celsius": round(room.celsius, 1), "where": "kitchen"}
    room.transmit(Event(signal=signals.TEMPERATURE, payload=reading))
    return return_status.HANDLED


def measuring_heating(room: Room, e: Event) -> Any:
    room.change = 0.6 if e.payload else -0.4
    return return_status.HANDLED


class Heater(NetworkedFactory):
    """Is off or on."""

    def __init__(self, **network: Any) -> None:
        super().__init__("heater", **network)
        self.times_on = 0
        self.has_finished = threading.Event()
        self.state_on_start = (
            self.create(state="off")
            .catch(signals.ENTRY_SIGNAL, off_entry)
            .catch(signals.TEMPERATURE, off_temperature)
            .to_method()
        )
        on = (
            self.create(state="on")
            .catch(signals.ENTRY_SIGNAL, on_entry)
            .catch(signals.TEMPERATURE, on_temperature)
            .to_method()
        )
        self.nest(self.state_on_start, parent=None).nest(on, parent=None)

    def to(self, state: str) -> Any:
        """Go to a state by its name."""
        return self.trans(self.states[state].to_method())


def off_entry(heater: Heater, e: Event) -> Any:
    heater.transmit(Event(signal=signals.HEATING, payload=False))
    if heater.times_on == 2:
        heater.has_finished.set()
    return return_status.HANDLED


def off_temperature(heater: Heater, e: Event) -> Any:
    if e.payload["celsius"] < COLD:
        print(f"heater: {e.payload['celsius']} degrees in the {e.payload['where']}: on")
        return heater.to("on")
    return return_status.HANDLED


def on_entry(heater: Heater, e: Event) -> Any:
    heater.times_on += 1
    heater.transmit(Event(signal=signals.HEATING, payload=True))
    return return_status.HANDLED


def on_temperature(heater: Heater, e: Event) -> Any:
    if e.payload["celsius"] > WARM:
        print(f"heater: {e.payload['celsius']} degrees in the {e.payload['where']}: off")
        return heater.to("off")
    return return_status.HANDLED


def run_both(timeout: float) -> bool:
    """Run both charts, each at a private broker of its own."""
    with LocalBroker("127.0.0.2") as a, LocalBroker("127.0.0.3", password=a.password) as b:
        network = {
            "rabbit_user": a.user,
            "rabbit_password": a.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "addresses": [str(a.address), str(b.address)],
        }
        with (
            Heater(**network, rabbit_host=a.host, rabbit_port=a.port) as heater,
            Room(**network, rabbit_host=b.host, rabbit_port=b.port) as room,
        ):
            heater.start_at(heater.state_on_start)
            room.start_at(room.state_on_start)
            return heater.has_finished.wait(timeout)


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


def run_one(options: argparse.Namespace) -> bool:
    """Run one chart at a given broker."""
    kind = {"room": Room, "heater": Heater}[options.role]
    chart = kind(
        rabbit_user=from_environment("RABBIT_USER"),
        rabbit_password=from_environment("RABBIT_PASSWORD"),
        mesh_encryption_key=from_environment("MESH_KEY"),
        rabbit_host=options.host,
        addresses=options.addresses,
    )
    with chart:
        chart.enable_snoop_trace()  # shows the other's state transitions, too
        chart.start_at(chart.state_on_start)
        finished = getattr(chart, "has_finished", threading.Event())
        return bool(finished.wait(options.timeout)) or options.role == "room"


def main() -> int:
    """Run one chart at a given broker, or both at private ones."""
    parser = argparse.ArgumentParser(description="A room and its heater.")
    parser.add_argument("--host", help="own broker, host or host:port; without it, private ones")
    parser.add_argument("--addresses", nargs="*", help="the others' brokers; default: the LAN's")
    parser.add_argument("--role", choices=("room", "heater"), default="room")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until it gives up")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    finished = run_both(options.timeout) if options.host is None else run_one(options)
    if not finished:
        print("the heater was not on twice in time", file=sys.stderr)
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
