"""Two charts that make each other's acquaintance: state functions on ``NetworkedActiveObject``.

By itself, this program boots a private RabbitMQ node and runs both charts at it::

    python examples/active_object.py

On real brokers it runs one chart; start it on two machines, or in two terminals. The passwords
stay off the command line::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...     # the same on both
    python examples/active_object.py --name fan   --host 192.168.1.71 --addresses 192.168.1.72
    python examples/active_object.py --name lamp --host 192.168.1.72 --addresses 192.168.1.71

A new MESH_KEY is printed by
``python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject


class Guest(NetworkedActiveObject):
    """Says hello until it is welcomed, and welcomes every chart that says hello."""

    def __init__(self, name: str, **network: Any) -> None:
        super().__init__(name, **network)
        self.has_welcomed = threading.Event()
        self.was_welcomed = threading.Event()


@spy_on
def polite(guest: Guest, e: Event) -> Any:
    """The outer state: answers every HELLO."""
    status = return_status.UNHANDLED
    if e.signal == signals.HELLO:
        print(f"{guest.name}: hears hello from {e.payload}")
        guest.transmit(Event(signal=signals.WELCOME, payload=guest.name))
        guest.has_welcomed.set()
        status = return_status.HANDLED
    else:
        status, guest.temp.fun = return_status.SUPER, guest.top
    return status


@spy_on
def alone(guest: Guest, e: Event) -> Any:
    """Says hello every half second, so that charts that start later hear it, too."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        guest.post_fifo(Event(signal=signals.SAY_HELLO), period=0.5, deferred=False)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        guest.cancel_events(Event(signal=signals.SAY_HELLO))
        status = return_status.HANDLED
    elif e.signal == signals.SAY_HELLO:
        guest.transmit(Event(signal=signals.HELLO, payload=guest.name))
        status = return_status.HANDLED
    elif e.signal == signals.WELCOME:
        print(f"{guest.name}: was welcomed by {e.payload}")
        status = guest.trans(acquainted)
    else:
        status, guest.temp.fun = return_status.SUPER, polite
    return status


@spy_on
def acquainted(guest: Guest, e: Event) -> Any:
    """Is content."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        guest.was_welcomed.set()
        status = return_status.HANDLED
    else:
        status, guest.temp.fun = return_status.SUPER, polite
    return status


def meet(guests: list[Guest], timeout: float) -> bool:
    """Start charts, wait until each has met another, and stop them."""
    try:
        for guest in guests:
            guest.start_at(alone)
        return all(
            guest.was_welcomed.wait(timeout) and guest.has_welcomed.wait(timeout)
            for guest in guests
        )
    finally:
        for guest in guests:
            guest.stop()  # sends what still waits, and ends every thread


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


def main() -> int:
    """Run one chart at a given broker, or two at a private one."""
    parser = argparse.ArgumentParser(description="Two charts that say hello to each other.")
    parser.add_argument("--host", help="own broker, host or host:port; without it, a private one")
    parser.add_argument("--addresses", nargs="*", help="the others' brokers; default: the LAN's")
    parser.add_argument("--name", default="fan")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for others")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    if options.host is not None:
        guest = Guest(
            options.name,
            rabbit_user=from_environment("RABBIT_USER"),
            rabbit_password=from_environment("RABBIT_PASSWORD"),
            mesh_encryption_key=from_environment("MESH_KEY"),
            rabbit_host=options.host,
            addresses=options.addresses,
        )
        guest.enable_snoop_trace()  # shows the other's state transitions, too
        met = meet([guest], options.timeout)
    else:
        with LocalBroker("127.0.0.2") as broker:
            network = {
                "rabbit_user": broker.user,
                "rabbit_password": broker.password,
                "mesh_encryption_key": Fernet.generate_key(),
                "rabbit_host": broker.host,
                "rabbit_port": broker.port,
                "addresses": [],
            }
            guests = [Guest(name, **network) for name in ("fan", "lamp")]
            met = meet(guests, options.timeout)
    if not met:
        print("nobody answered", file=sys.stderr)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
