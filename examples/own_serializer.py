"""A serializer of your own: dataclasses as JSON, checked before any chart sees them.

It shows when to write one (programs in other languages read along, payloads have a form that is
written down, a wrong value is to be stopped at the door), and what each half has to do:

- ``to_bytes`` turns the body of an event, the pair of signal name and payload, into bytes. What it
  raises, ``transmit`` raises as ``PayloadRefused``.
- ``from_bytes`` turns the bytes back, and *checks*: whoever has the key can send anything. What it
  raises costs that one event, which is counted and logged.

Every program of the system has to use the same pair. Run it with::

    python examples/own_serializer.py

It boots a private RabbitMQ. A thermometer sends a reading, and something that cannot be sent; a
chart with the same key and a careless serializer sends readings that are wrong; a display shows
what gets through.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import threading
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject, PayloadRefused

HOT = 30.0  # degrees Celsius


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a thermometer measures."""

    room: str
    celsius: float

    def __post_init__(self) -> None:
        if not (isinstance(self.room, str) and 0 < len(self.room) <= 40):
            raise ValueError("room is a text of 1 to 40 characters")
        if type(self.celsius) is not float or not math.isfinite(self.celsius):
            raise ValueError("celsius is a finite float")
        if not -60.0 <= self.celsius <= 100.0:
            raise ValueError(f"{self.celsius:g} degrees are no room's temperature")


@dataclasses.dataclass(frozen=True)
class Wish:
    """What somebody would like to have."""

    room: str
    warmer: bool

    def __post_init__(self) -> None:
        if not isinstance(self.room, str) or type(self.warmer) is not bool:
            raise ValueError("a wish has a room, and warmer is True or False")


KINDS = {kind.__name__: kind for kind in (Reading, Wish)}
"""Everything that travels in this system, apart from events without a payload."""


def to_bytes(body: tuple[str, Any]) -> bytes:
    """Write a body: ``{"signal": "MEASURED", "Reading": {"room": "attic", "celsius": 21.5}}``."""
    signal_name, payload = body
    document: dict[str, Any] = {"signal": signal_name}
    if payload is not None:
        kind = type(payload).__name__
        if KINDS.get(kind) is not type(payload):
            raise TypeError(f"a payload is a {' or a '.join(KINDS)} here, not a {kind}")
        document[kind] = dataclasses.asdict(payload)
    return json.dumps(document, allow_nan=False).encode()


def from_bytes(data: bytes) -> tuple[str, Any]:
    """Read a body. Nothing is taken for granted: not the keys, not the types, not the ranges."""
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("signal"), str):
        raise ValueError("not an object with a signal")
    signal_name = document.pop("signal")
    if not document:
        return signal_name, None
    if len(document) > 1:
        raise ValueError("more than one payload")
    ((kind, values),) = document.items()
    if kind not in KINDS:
        raise ValueError("an unknown kind of payload")
    names = {field.name for field in dataclasses.fields(KINDS[kind])}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"a {kind} has {', '.join(sorted(names))} and nothing else")
    return signal_name, KINDS[kind](**values)  # whose __post_init__ checks the values


class Display(NetworkedActiveObject):
    """Shows readings."""

    def __init__(self, name: str, **network: Any) -> None:
        super().__init__(name, **network)
        self.has_seen_the_last = threading.Event()


@spy_on
def showing(display: Display, e: Event) -> Any:
    """The outer state: shows every reading."""
    status = return_status.UNHANDLED
    if e.signal == signals.MEASURED:
        reading: Reading = e.payload
        print(f"display: {reading.celsius:g} degrees in the {reading.room}", flush=True)
        status = display.trans(hot if reading.celsius >= HOT else pleasant)
    elif e.signal == signals.DONE:
        display.has_seen_the_last.set()
        status = return_status.HANDLED
    else:
        status, display.temp.fun = return_status.SUPER, display.top
    return status


@spy_on
def pleasant(display: Display, e: Event) -> Any:
    display.temp.fun = showing
    return return_status.SUPER


@spy_on
def hot(display: Display, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        print("display: open a window", flush=True)
        status = return_status.HANDLED
    else:
        status, display.temp.fun = return_status.SUPER, showing
    return status


@spy_on
def measuring(thermometer: NetworkedActiveObject, e: Event) -> Any:
    """A chart that handles nothing: the main program transmits with it."""
    thermometer.temp.fun = thermometer.top
    return return_status.SUPER


def careless(body: Any) -> bytes:
    """What a program with a mistake might send: the key is right, the payload is not."""
    return json.dumps({"signal": body[0], "Reading": body[1]}).encode()


def main() -> int:
    """Send good and bad readings, and show what becomes of them."""
    logging.basicConfig(level=logging.ERROR)  # the warnings of bad readings: we show the counters
    with LocalBroker("127.0.0.2") as broker:
        network: dict[str, Any] = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "rabbit_host": str(broker.address),
            "addresses": [],
        }
        ours: dict[str, Any] = {**network, "serializer": to_bytes, "deserializer": from_bytes}
        theirs: dict[str, Any] = {**network, "serializer": careless, "deserializer": json.loads}
        with (
            Display("display", **ours) as display,
            NetworkedActiveObject("thermometer", **ours) as thermometer,
            NetworkedActiveObject("stranger", **theirs) as stranger,
        ):
            display.start_at(pleasant)
            for chart in (thermometer, stranger):
                chart.start_at(measuring)
            stranger.transmit(Event(signal="MEASURED", payload={"room": "attic"}))
            stranger.transmit(Event(signal="MEASURED", payload={"room": "attic", "celsius": 4000}))
            stranger.nets.flush(10)
            thermometer.transmit(Event(signal="MEASURED", payload=Reading("attic", 21.5)))
            thermometer.transmit(Event(signal="MEASURED", payload=Reading("attic", 31.0)))
            try:
                thermometer.transmit(Event(signal="MEASURED", payload=21.5))
            except PayloadRefused as error:
                print(f"thermometer: {error}", flush=True)
            thermometer.transmit(Event(signal="DONE"))
            has_ended = display.has_seen_the_last.wait(20)
            for reason, count in display.nets.stats().mesh.rejected.items():
                print(f"display: rejected {count}: {reason.value}", flush=True)
    return 0 if has_ended else 1


if __name__ == "__main__":
    sys.exit(main())
