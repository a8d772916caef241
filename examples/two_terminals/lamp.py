"""The lamp of two charts in two terminals: flat state functions on ``NetworkedActiveObject``.

It shows what two programs need in order to talk: the same broker, user, password and key. In one
terminal::

    python lamp.py

and, as soon as it says so, in another terminal and in the same folder::

    python switch.py

The lamp boots a private RabbitMQ and writes how to reach it into ``lamp.json``, which only you may
read. Ctrl-C ends either program; the lamp then removes broker and file.

With a RabbitMQ of your own, start both programs with ``--host``, on any machines, in any order::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...     # the same for both
    python lamp.py --host 192.168.1.71 --addresses 192.168.1.72     # on 192.168.1.71
    python switch.py --host 192.168.1.72 --addresses 192.168.1.71   # on 192.168.1.72
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

ACCESS = Path("lamp.json")
"""How the switch reaches the private broker."""

BURNS_S = 8.0
"""The lamp goes out by itself after so many seconds."""


class Lamp(NetworkedActiveObject):
    """A lamp that says what it does."""

    def shine(self, how: str) -> None:
        """Print how it shines, and tell the other charts."""
        print(f"lamp: {how}", flush=True)
        self.transmit(Event(signal=signals.LAMP_IS, payload=how))


@spy_on
def off(lamp: Lamp, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        lamp.shine("off")
        status = return_status.HANDLED
    elif e.signal == signals.PRESS:
        status = lamp.trans(dim)
    elif e.signal == signals.HOW_IS_THE_LAMP:
        lamp.shine("off")
        status = return_status.HANDLED
    else:
        status, lamp.temp.fun = return_status.SUPER, lamp.top
    return status


@spy_on
def on(lamp: Lamp, e: Event) -> Any:
    """Dim or bright: either ends after a while."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        lamp.post_fifo(Event(signal=signals.BURNT), period=BURNS_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        lamp.cancel_events(Event(signal=signals.BURNT))
        status = return_status.HANDLED
    elif e.signal == signals.BURNT:
        status = lamp.trans(off)
    else:
        status, lamp.temp.fun = return_status.SUPER, lamp.top
    return status


@spy_on
def dim(lamp: Lamp, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        lamp.shine("dim")
        status = return_status.HANDLED
    elif e.signal == signals.PRESS:
        status = lamp.trans(bright)
    elif e.signal == signals.HOW_IS_THE_LAMP:
        lamp.shine("dim")
        status = return_status.HANDLED
    else:
        status, lamp.temp.fun = return_status.SUPER, on
    return status


@spy_on
def bright(lamp: Lamp, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        lamp.shine("bright")
        status = return_status.HANDLED
    elif e.signal == signals.PRESS:
        status = lamp.trans(off)
    elif e.signal == signals.HOW_IS_THE_LAMP:
        lamp.shine("bright")
        status = return_status.HANDLED
    else:
        status, lamp.temp.fun = return_status.SUPER, on
    return status


@contextmanager
def private_broker(place: str) -> Iterator[dict[str, Any]]:
    """Run a RabbitMQ, and say in a file how to reach it; yields the arguments of a chart."""
    host, _, port = place.partition(":")
    with LocalBroker(host, int(port), user="robot") as broker:
        network = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key().decode(),
            "rabbit_host": str(broker.address),
            "addresses": [],
        }
        ACCESS.unlink(missing_ok=True)
        ACCESS.touch(0o600)  # nobody else may read it
        ACCESS.write_text(json.dumps(network), encoding="utf-8")
        try:
            yield network
        finally:
            ACCESS.unlink(missing_ok=True)


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


@contextmanager
def given_broker(host: str, addresses: list[str] | None) -> Iterator[dict[str, Any]]:
    """Use a RabbitMQ that runs already; yields the arguments of a chart."""
    yield {
        "rabbit_user": from_environment("RABBIT_USER"),
        "rabbit_password": from_environment("RABBIT_PASSWORD"),
        "mesh_encryption_key": from_environment("MESH_KEY"),
        "rabbit_host": host,
        "addresses": addresses,
    }


def main() -> None:
    """Run the lamp until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A lamp that a switch switches.")
    parser.add_argument("--host", help="own broker, host or host:port; without it, a private one")
    parser.add_argument("--addresses", nargs="*", help="the others' brokers; default: the LAN's")
    parser.add_argument("--private", default="127.0.0.2:5673", help="where the private one listens")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    if options.host is None:
        print("lamp: starting a private RabbitMQ ...", flush=True)
        broker = private_broker(options.private)
    else:
        broker = given_broker(options.host, options.addresses)
    with broker as network, Lamp("lamp", **network) as lamp:
        lamp.start_at(off)
        if options.host is None:
            print("lamp: now start switch.py in another terminal, in this folder", flush=True)
        lamp.wait()


if __name__ == "__main__":
    main()
