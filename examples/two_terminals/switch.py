"""The switch of two charts in two terminals: callbacks on ``NetworkedFactory``.

Each Enter presses it, and ``q`` and Enter, or Ctrl-C, end it. How to start it says ``lamp.py``,
which it switches. It shows how a program that waits for a person works beside a chart: the main
thread reads the keyboard and posts an event, the chart's thread handles it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from miros import Event, return_status, signals

from miros_rabbitmq import NetworkedFactory

ACCESS = Path("lamp.json")
"""Where the lamp says how to reach its private broker."""

ASK_S = 1.0
"""How often it asks for the lamp until there is an answer, in seconds."""


class Switch(NetworkedFactory):
    """Looks for a lamp, and then switches it.

    ::

        looking ──LAMP_IS──> connected
    """

    def __init__(self, **network: Any) -> None:
        super().__init__("switch", **network)
        self.looking = (
            self.create(state="looking")
            .catch(signals.ENTRY_SIGNAL, looking_entry)
            .catch(signals.EXIT_SIGNAL, looking_exit)
            .catch(signals.ASK, looking_ask)
            .catch(signals.FINGER, looking_finger)
            .catch(signals.LAMP_IS, looking_lamp_is)
            .to_method()
        )
        self.connected = (
            self.create(state="connected")
            .catch(signals.FINGER, connected_finger)
            .catch(signals.LAMP_IS, connected_lamp_is)
            .to_method()
        )
        self.nest(self.looking, parent=None).nest(self.connected, parent=None)


def looking_entry(switch: Switch, e: Event) -> Any:
    switch.post_fifo(Event(signal=signals.ASK), period=ASK_S, deferred=False)
    return return_status.HANDLED


def looking_exit(switch: Switch, e: Event) -> Any:
    switch.cancel_events(Event(signal=signals.ASK))
    return return_status.HANDLED


def looking_ask(switch: Switch, e: Event) -> Any:
    switch.transmit(Event(signal=signals.HOW_IS_THE_LAMP))
    return return_status.HANDLED


def looking_finger(switch: Switch, e: Event) -> Any:
    print("switch: there is no lamp yet", flush=True)
    return return_status.HANDLED


def looking_lamp_is(switch: Switch, e: Event) -> Any:
    print(f"switch: the lamp is {e.payload}; Enter switches it, q and Enter end this", flush=True)
    return switch.trans(switch.connected)


def connected_finger(switch: Switch, e: Event) -> Any:
    switch.transmit(Event(signal=signals.PRESS))
    return return_status.HANDLED


def connected_lamp_is(switch: Switch, e: Event) -> Any:
    print(f"switch: the lamp is {e.payload}", flush=True)
    return return_status.HANDLED


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


def network_from(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a chart: those of the lamp's private broker, or of a given one."""
    if options.host is None:
        try:
            return dict(json.loads(ACCESS.read_text(encoding="utf-8")))
        except FileNotFoundError:
            sys.exit(f"switch: no {ACCESS} here: start lamp.py first, in this folder")
    return {
        "rabbit_user": from_environment("RABBIT_USER"),
        "rabbit_password": from_environment("RABBIT_PASSWORD"),
        "mesh_encryption_key": from_environment("MESH_KEY"),
        "rabbit_host": options.host,
        "addresses": options.addresses,
    }


def main() -> None:
    """Press the switch with each Enter."""
    parser = argparse.ArgumentParser(description="A switch for the lamp of lamp.py.")
    parser.add_argument("--host", help="own broker, host or host:port; without it, the lamp's")
    parser.add_argument("--addresses", nargs="*", help="the others' brokers; default: the LAN's")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    with Switch(**network_from(options)) as switch:
        switch.start_at(switch.looking)
        for line in sys.stdin:
            if line.strip() == "q":
                break
            switch.post_fifo(Event(signal=signals.FINGER))


if __name__ == "__main__":
    main()
