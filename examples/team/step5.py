"""Step 5: defer and recall. An order that comes at the wrong moment waits.

::

    in_service
    ├── free          recalls an order at its entry;  ──ORDER──> driving
    └── busy          defers ORDER
        ├── driving   ──ARRIVED──> loading
        └── loading   ──LOADED──> free;  tells the base DONE
    in_service        ──HALT──> halted
    halted            defers ORDER;  ──RESUME──> free, or driving if an order is in hand

    on_duty           takes REPORT and DONE;  CUSTOMER comes from a timer
    ├── calm          recalls at its entry;  CUSTOMER: an order for the next robot;  ──CAT──> alarm
    └── alarm         defers CUSTOMER;  HALT to all at its entry, RESUME at its exit;
                      ──CLEAR──> calm
"""

from __future__ import annotations

import contextlib
import itertools
import queue
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

S_PER_METRE = 0.1  # to drive; shelf 7 is 7 m away
LOADING_S = 0.2
BETWEEN_CUSTOMERS_S = 0.5
SHELVES = [25, 3, 5, 4]  # which the customers want


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
        robot.recall()  # one: the next entry recalls the next
        status = return_status.HANDLED
    elif e.signal == signals.ORDER:
        robot.shelf = e.payload
        status = robot.trans(driving)
    else:
        status, robot.temp.fun = return_status.SUPER, in_service
    return status


@spy_on
def busy(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ORDER:
        robot.report(f"keeps the order for shelf {e.payload}")
        robot.defer(e)
        status = return_status.HANDLED
    else:
        status, robot.temp.fun = return_status.SUPER, in_service
    return status


@spy_on
def driving(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.report(f"drives to shelf {robot.shelf}")
        robot.post_fifo(Event(signal=signals.ARRIVED), period=robot.shelf * S_PER_METRE, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        robot.cancel_events(Event(signal=signals.ARRIVED))
        status = return_status.HANDLED
    elif e.signal == signals.ARRIVED:
        status = robot.trans(loading)
    else:
        status, robot.temp.fun = return_status.SUPER, busy
    return status


@spy_on
def loading(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.post_fifo(Event(signal=signals.LOADED), period=LOADING_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        robot.cancel_events(Event(signal=signals.LOADED))
        status = return_status.HANDLED
    elif e.signal == signals.LOADED:
        robot.transmit(Event(signal=signals.DONE, payload=robot.shelf))
        robot.shelf = 0
        status = robot.trans(free)
    else:
        status, robot.temp.fun = return_status.SUPER, busy
    return status


@spy_on
def halted(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        robot.report("stands still")
        status = return_status.HANDLED
    elif e.signal == signals.ORDER:
        robot.defer(e)
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
        self.wanted = iter(SHELVES)
        self.done: queue.Queue[int] = queue.Queue()


@spy_on
def on_duty(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.post_fifo(
            Event(signal=signals.CUSTOMER), period=BETWEEN_CUSTOMERS_S, times=len(SHELVES)
        )
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.cancel_events(Event(signal=signals.CUSTOMER))
        status = return_status.HANDLED
    elif e.signal == signals.REPORT:
        print(f"base: {e.payload}")
        status = return_status.HANDLED
    elif e.signal == signals.DONE:
        print(f"base: shelf {e.payload} is done")
        base.done.put(e.payload)
        status = return_status.HANDLED
    else:
        status, base.temp.fun = return_status.SUPER, base.top
    return status


@spy_on
def calm(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        while base.recall() is not None:  # all: it can pass on any number
            pass
        status = return_status.HANDLED
    elif e.signal == signals.CUSTOMER:
        shelf, line = next(base.wanted), next(base.next_line)
        print(f"base: an order for shelf {shelf}, by the {line.name}")
        line.transmit(Event(signal=signals.ORDER, payload=shelf))
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
    elif e.signal == signals.CUSTOMER:
        base.defer(e)
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
        for name in names:
            stack.enter_context(Robot(name, **network)).start_at(free)
        base = Base(names, **network)
        for line in base.lines:
            stack.enter_context(line).start_at(speaking)
        stack.enter_context(base).start_at(calm)  # last: its first state begins to speak
        for _ in SHELVES:
            base.done.get(timeout=5)


if __name__ == "__main__":
    main()
