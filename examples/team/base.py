"""The base station: it calls the team together, gives each order to a robot, and minds the cat.

::

    on_duty             takes DONE
    ├── gathering       asks WHO_IS_THERE twice a second;  ──HERE of the last──> calm
    └── serving         CUSTOMER comes from a timer
        ├── calm        recalls at its entry;  CUSTOMER: an order for the next robot;
        │               ──CAT──> alarm
        └── alarm       defers CUSTOMER;  HALT to all at its entry, RESUME at its exit;
                        ──CLEAR──> calm

It speaks to all robots by its own routing key, and to each by a *line*: a chart that only speaks.
CAT and CLEAR come from timers, as the cat does not press buttons.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

ROLL_CALL_S = 0.5
BETWEEN_CUSTOMERS_S = 0.7
CALM_S = 3.0
CAT_S = 1.5


class Base(NetworkedActiveObject):
    """The chart, its lines, and what it remembers.

    Args:
        robots: the names of the team.
        orders: how many customers come; `has_finished` is set when all have what they wanted.
        network: the arguments of every networked chart.
    """

    def __init__(self, robots: list[str], orders: int, **network: Any) -> None:
        to_all = ".".join(["to", *robots])
        super().__init__("base", tx_routing_key=to_all, rx_routing_key="from.*", **network)
        self.lines = [
            NetworkedActiveObject(f"line to {robot}", tx_routing_key=f"to.{robot}", **network)
            for robot in robots
        ]
        self.next_line = itertools.cycle(self.lines)
        self.missing = set(robots)
        self.orders = orders
        self.done: Counter[tuple[str, int]] = Counter()
        self.has_finished = threading.Event()


@spy_on
def on_duty(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.DONE:
        base.done[e.payload] += 1
        robot, shelf = e.payload
        base.snoop_scribble(f"{robot} brings what was on shelf {shelf}")
        if base.done.total() == base.orders:
            base.has_finished.set()
        status = return_status.HANDLED
    else:
        status, base.temp.fun = return_status.SUPER, base.top
    return status


@spy_on
def gathering(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.post_fifo(Event(signal=signals.CALL_ROLL), period=ROLL_CALL_S, deferred=False)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.cancel_events(Event(signal=signals.CALL_ROLL))
        status = return_status.HANDLED
    elif e.signal == signals.CALL_ROLL:
        base.transmit(Event(signal=signals.WHO_IS_THERE))
        status = return_status.HANDLED
    elif e.signal == signals.HERE:
        base.missing.discard(e.payload)
        status = return_status.HANDLED if base.missing else base.trans(calm)
    else:
        status, base.temp.fun = return_status.SUPER, on_duty
    return status


@spy_on
def serving(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.post_fifo(
            Event(signal=signals.CUSTOMER), period=BETWEEN_CUSTOMERS_S, times=base.orders
        )
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.cancel_events(Event(signal=signals.CUSTOMER))
        status = return_status.HANDLED
    else:
        status, base.temp.fun = return_status.SUPER, on_duty
    return status


@spy_on
def calm(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.post_fifo(Event(signal=signals.CAT), period=CALM_S, times=1)
        while base.recall() is not None:  # all: it can pass on any number
            pass
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.cancel_events(Event(signal=signals.CAT))
        status = return_status.HANDLED
    elif e.signal == signals.CUSTOMER:
        line = next(base.next_line)
        line.transmit(Event(signal=signals.ORDER, payload=random.randint(1, 9)))
        status = return_status.HANDLED
    elif e.signal == signals.CAT:
        status = base.trans(alarm)
    else:
        status, base.temp.fun = return_status.SUPER, serving
    return status


@spy_on
def alarm(base: Base, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        base.snoop_scribble("a cat is in the hall")
        base.transmit(Event(signal=signals.HALT))
        base.post_fifo(Event(signal=signals.CLEAR), period=CAT_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        base.cancel_events(Event(signal=signals.CLEAR))
        base.transmit(Event(signal=signals.RESUME))
        status = return_status.HANDLED
    elif e.signal == signals.CUSTOMER:
        base.defer(e)
        status = return_status.HANDLED
    elif e.signal == signals.CLEAR:
        status = base.trans(calm)
    else:
        status, base.temp.fun = return_status.SUPER, serving
    return status


@spy_on
def speaking(line: NetworkedActiveObject, e: Event) -> Any:
    """The only state of a line: it hears nothing."""
    line.temp.fun = line.top
    return return_status.SUPER
