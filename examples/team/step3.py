"""Step 3: two robots and a base station. Who hears what is a matter of routing keys.

::

    base             to.wren.finch   ──>  wren, finch
    line to wren     to.wren         ──>  wren
    line to finch    to.finch        ──>  finch
    wren             from.wren       ──>  base
    finch            from.finch      ──>  base

The robots are those of step 2. The base::

    on_duty      takes REPORT
    ├── calm     CUSTOMER: an order for the next robot;  ──CAT──> alarm
    └── alarm    tells all robots HALT at its entry and RESUME at its exit;  ──CLEAR──> calm
"""

from __future__ import annotations

import contextlib
import itertools
import queue
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject


class Robot(NetworkedActiveObject):
    """The chart, and what it remembers."""

    shelf = 0  # of the order in hand; 0 is none

    def __init__(self, name: str, **network: Any) -> None:
        super().__init__(
            name, tx_routing_key=f"from.{name}", rx_routing_key=f"to.#.{name}.#", **network
        )

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
    """The chart, a line to each robot, and what it was told."""

    def __init__(self, robots: list[str], **network: Any) -> None:
        to_all = ".".join(["to", *robots])
        super().__init__("base", tx_routing_key=to_all, rx_routing_key="from.*", **network)
        self.lines = [
            NetworkedActiveObject(f"line to {robot}", tx_routing_key=f"to.{robot}", **network)
            for robot in robots
        ]
        self.next_line = itertools.cycle(self.lines)
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


@spy_on
def calm(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.CUSTOMER:
        line = next(base.next_line)
        line.transmit(Event(signal=signals.ORDER, payload=e.payload))  # to one
        status = return_status.HANDLED
    elif e.signal == signals.CAT:
        status = base.trans(alarm)
    else:
        status, base.temp.fun = return_status.SUPER, on_duty
    return status


@spy_on
def alarm(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.transmit(Event(signal=signals.HALT))  # to all
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.transmit(Event(signal=signals.RESUME))
        status = return_status.HANDLED
    elif e.signal == signals.CLEAR:
        status = base.trans(calm)
    else:
        status, base.temp.fun = return_status.SUPER, on_duty
    return status


@spy_on
def speaking(line: NetworkedActiveObject, e: Event) -> Any:
    """The only state of a line: it hears nothing."""
    line.temp.fun = line.top
    return return_status.SUPER


def main() -> None:
    names = ["wren", "finch"]
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(LocalBroker("127.0.0.2"))
        network: dict[str, Any] = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "rabbit_host": broker.host,
            "rabbit_port": broker.port,
            "addresses": [],  # there is no other broker
        }
        base = stack.enter_context(Base(names, **network))
        base.start_at(calm)
        for line in base.lines:
            stack.enter_context(line).start_at(speaking)
        for name in names:
            stack.enter_context(Robot(name, **network)).start_at(free)
            base.reports.get(timeout=5)  # is free
        for shelf in (7, 3):
            base.post_fifo(Event(signal=signals.CUSTOMER, payload=shelf))
            base.reports.get(timeout=5)  # drives
        base.post_fifo(Event(signal=signals.CAT))
        for _ in names:
            base.reports.get(timeout=5)  # stands still
        base.post_fifo(Event(signal=signals.CLEAR))
        for _ in names:
            base.reports.get(timeout=5)  # drives


if __name__ == "__main__":
    main()
