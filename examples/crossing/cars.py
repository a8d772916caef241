"""The lights for the cars: flat state functions on ``NetworkedActiveObject``.

::

    dark <──> lit: red ──DRIVE──> ready ──> green ──STOP──> amber ──> red

It hears LIGHTS_ON, LIGHTS_OFF, DRIVE and STOP of ``control``, and transmits CAR_PASSED and
CARS_STAND. What makes it a networked chart is its class, and ``transmit``; the rest is plain miros.
"""

from __future__ import annotations

from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

READY_S = 0.6
AMBER_S = 0.8
BETWEEN_CARS_S = 0.35


class Cars(NetworkedActiveObject):
    """The chart, and what it remembers."""

    passed = 0  # cars so far
    turn = 0  # the number of the STOP that is being obeyed


def make(**network: Any) -> tuple[Cars, Any]:
    """Make the chart, and name the state it starts in."""
    return Cars("cars", **network), dark


@spy_on
def dark(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.LIGHTS_ON:
        status = cars.trans(red)
    else:
        status, cars.temp.fun = return_status.SUPER, cars.top
    return status


@spy_on
def lit(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.LIGHTS_OFF:  # whichever lamp is on
        status = cars.trans(dark)
    else:
        status, cars.temp.fun = return_status.SUPER, cars.top
    return status


@spy_on
def red(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.DRIVE:
        status = cars.trans(ready)
    else:
        status, cars.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def ready(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        cars.post_fifo(Event(signal=signals.READY_OVER), period=READY_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        cars.cancel_events(Event(signal=signals.READY_OVER))
        status = return_status.HANDLED
    elif e.signal == signals.READY_OVER:
        status = cars.trans(green)
    else:
        status, cars.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def green(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        cars.post_fifo(Event(signal=signals.CAR), period=BETWEEN_CARS_S)  # until cancelled
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        cars.cancel_events(Event(signal=signals.CAR))
        status = return_status.HANDLED
    elif e.signal == signals.CAR:  # our own timer's: local
        cars.passed += 1
        cars.transmit(Event(signal=signals.CAR_PASSED, payload=cars.passed))
        status = return_status.HANDLED
    elif e.signal == signals.STOP:  # control's: from another process
        cars.turn = e.payload
        status = cars.trans(amber)
    else:
        status, cars.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def amber(cars: Cars, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        cars.post_fifo(Event(signal=signals.AMBER_OVER), period=AMBER_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        cars.cancel_events(Event(signal=signals.AMBER_OVER))
        status = return_status.HANDLED
    elif e.signal == signals.AMBER_OVER:
        cars.transmit(Event(signal=signals.CARS_STAND, payload=cars.turn))
        status = cars.trans(red)
    else:
        status, cars.temp.fun = return_status.SUPER, lit
    return status
