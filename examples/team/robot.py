"""A robot of the team: it fetches things from shelves, one order at a time.

::

    on                    answers WHO_IS_THERE with HERE
    ├── in_service        ──HALT──> halted
    │   ├── free          recalls an order at its entry;  ──ORDER──> driving
    │   └── busy          defers ORDER
    │       ├── driving   ──ARRIVED──> loading
    │       └── loading   ──LOADED──> free;  tells the base DONE
    └── halted            defers ORDER;  ──RESUME──> free, or driving if an order is in hand

ARRIVED and LOADED come from timers of its own, ORDER from its line, HALT, RESUME and WHO_IS_THERE
from the base.
"""

from __future__ import annotations

from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

S_PER_METRE = 0.1  # to drive; shelf 7 is 7 m away
LOADING_S = 0.2


class Robot(NetworkedActiveObject):
    """The chart, and what it remembers."""

    shelf = 0  # of the order in hand; 0 is none

    def __init__(self, name: str, **network: Any) -> None:
        super().__init__(
            name, tx_routing_key=f"from.{name}", rx_routing_key=f"to.#.{name}.#", **network
        )


@spy_on
def on(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.WHO_IS_THERE:
        robot.transmit(Event(signal=signals.HERE, payload=robot.name))
        status = return_status.HANDLED
    else:
        status, robot.temp.fun = return_status.SUPER, robot.top
    return status


@spy_on
def in_service(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.HALT:
        status = robot.trans(halted)
    else:
        status, robot.temp.fun = return_status.SUPER, on
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
        robot.defer(e)
        robot.snoop_scribble(f"shelf {e.payload} has to wait for shelf {robot.shelf}")
        status = return_status.HANDLED
    else:
        status, robot.temp.fun = return_status.SUPER, in_service
    return status


@spy_on
def driving(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
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
        robot.transmit(Event(signal=signals.DONE, payload=(robot.name, robot.shelf)))
        robot.shelf = 0
        status = robot.trans(free)
    else:
        status, robot.temp.fun = return_status.SUPER, busy
    return status


@spy_on
def halted(robot: Robot, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ORDER:
        robot.defer(e)
        status = return_status.HANDLED
    elif e.signal == signals.RESUME:
        status = robot.trans(driving if robot.shelf else free)
    else:
        status, robot.temp.fun = return_status.SUPER, on
    return status
