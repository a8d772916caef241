"""Step 1: one robot, a chart of plain miros.

::

    in_service
    ├── free      ──ORDER──> driving
    └── driving   ──ARRIVED──> free
    in_service    ──HALT──> halted
    halted        ──RESUME──> free, or driving if an order is in hand
"""

from __future__ import annotations

import time
from typing import Any

from miros import ActiveObject, Event, return_status, signals, spy_on


class Robot(ActiveObject):  # type: ignore[misc]  # miros has no type hints
    """The chart, and what it remembers."""

    shelf = 0  # of the order in hand; 0 is none


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
        print(f"{robot.name}: is free")
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
        print(f"{robot.name}: drives to shelf {robot.shelf}")
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
        print(f"{robot.name}: stands still")
        status = return_status.HANDLED
    elif e.signal == signals.RESUME:
        status = robot.trans(driving if robot.shelf else free)
    else:
        status, robot.temp.fun = return_status.SUPER, robot.top
    return status


def main() -> None:
    wren = Robot("wren")
    wren.start_at(free)
    wren.post_fifo(Event(signal=signals.ORDER, payload=7))
    wren.post_fifo(Event(signal=signals.HALT))
    wren.post_fifo(Event(signal=signals.RESUME))
    wren.post_fifo(Event(signal=signals.ARRIVED))
    time.sleep(0.5)  # the chart handles them in its own thread
    print(wren.trace())


if __name__ == "__main__":
    main()
