"""Step 2: the robot is networked, and a base hears it; both in one program, at a private broker.

The robot is the chart of step 1::

    in_service
    ├── free      ──ORDER──> driving
    └── driving   ──ARRIVED──> free
    in_service    ──HALT──> halted
    halted        ──RESUME──> free, or driving if an order is in hand

The base has one state, ``on_duty``, and takes REPORT there.
"""

from __future__ import annotations

import queue
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject


class Robot(NetworkedActiveObject):
    """The chart, and what it remembers."""

    shelf = 0  # of the order in hand; 0 is none

    def report(self, news: str) -> None:
        """Tell the base."""
        self.transmit(Event(signal=signals.REPORT, payload=f"{self.name} {news}"))


@spy_on
def in_service(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.HALT:  # wherever it is
        status = robot.trans(halted)
    else:
        status, robot.temp.fun = return_status.SUPER, robot.top
    return status


@spy_on
def free(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.report("is free")
        status = return_status.HANDLED
    elif e.signal == signals.ORDER:
        robot.shelf = e.payload
        status = robot.trans(driving)
    else:
        status, robot.temp.fun = return_status.SUPER, in_service
    return status


@spy_on
def driving(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.report(f"drives to shelf {robot.shelf}")
        status = return_status.HANDLED
    elif e.signal == signals.ARRIVED:
        robot.shelf = 0
        status = robot.trans(free)
    else:
        status, robot.temp.fun = return_status.SUPER, in_service
    return status


@spy_on
def halted(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.report("stands still")
        status = return_status.HANDLED
    elif e.signal == signals.RESUME:
        status = robot.trans(driving if robot.shelf else free)
    else:
        status, robot.temp.fun = return_status.SUPER, robot.top
    return status


class Base(NetworkedActiveObject):
    """The chart, and what it was told."""

    def __init__(self, **network: Any) -> None:
        super().__init__("base", **network)
        self.reports: queue.Queue[str] = queue.Queue()


@spy_on
def on_duty(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.REPORT:
        print(f"base: {e.payload}")
        base.reports.put(e.payload)
        status = return_status.HANDLED
    else:
        status, base.temp.fun = return_status.SUPER, base.top
    return status


def main() -> None:
    with LocalBroker("127.0.0.2") as broker:
        network: dict[str, Any] = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "rabbit_host": broker.host,
            "rabbit_port": broker.port,
            "addresses": [],  # there is no other broker
        }
        with Base(**network) as base, Robot("wren", **network) as wren:
            base.start_at(on_duty)  # first: it is to hear all that the robot says
            wren.start_at(free)
            base.reports.get(timeout=5)  # is free
            base.transmit(Event(signal=signals.ORDER, payload=7))
            base.reports.get(timeout=5)  # drives
            wren.post_fifo(Event(signal=signals.ARRIVED))  # we play the wheels
            base.reports.get(timeout=5)  # is free


if __name__ == "__main__":
    main()
