"""The control box of the crossing: callbacks on ``NetworkedFactory``.

::

    dark <──> lit: driving ──> yielding ──BUTTON──> stopping ──CARS_STAND──> walking
                      ^                                                         │
                      └───────────────────────ZEBRA_CLEAR───────────────────────┘

It alone decides who may move, and nobody walks before the cars have *said* that they stand: each
step waits for the answer of another process. It transmits LIGHTS_ON, LIGHTS_OFF, DRIVE, STOP and
WALK, and hears BUTTON, CAR_PASSED, CARS_STAND and ZEBRA_CLEAR. SWITCH_ON and SWITCH_OFF are
posted to it by the holder of the box's key: here, the demo.
"""

from __future__ import annotations

from typing import Any

from miros import Event, return_status, signals

from miros_rabbitmq import NetworkedFactory

GREEN_AT_LEAST_S = 2.0


class Control(NetworkedFactory):
    """The chart, and what it remembers."""

    turn = 0  # counts the walks; each command and its answer carry it
    cars = 0  # that have passed


def make(**network: Any) -> tuple[Control, Any]:
    """Make the chart, and name the state it starts in."""
    control = Control("control", **network)

    dark = control.create(state="dark").catch(signals.SWITCH_ON, switch_on).to_method()
    lit = (
        control.create(state="lit")
        .catch(signals.ENTRY_SIGNAL, lit_entry)
        .catch(signals.INIT_SIGNAL, lit_init)
        .catch(signals.EXIT_SIGNAL, lit_exit)
        .catch(signals.SWITCH_OFF, switch_off)
        .catch(signals.BUTTON, button_later)
        .catch(signals.CAR_PASSED, car_passed)
        .to_method()
    )
    driving = (
        control.create(state="driving")
        .catch(signals.ENTRY_SIGNAL, driving_entry)
        .catch(signals.EXIT_SIGNAL, driving_exit)
        .catch(signals.ENOUGH, enough)
        .to_method()
    )
    yielding = (
        control.create(state="yielding")
        .catch(signals.ENTRY_SIGNAL, yielding_entry)
        .catch(signals.BUTTON, button_now)
        .to_method()
    )
    stopping = (
        control.create(state="stopping")
        .catch(signals.ENTRY_SIGNAL, stopping_entry)
        .catch(signals.CARS_STAND, cars_stand)
        .to_method()
    )
    walking = (
        control.create(state="walking")
        .catch(signals.ENTRY_SIGNAL, walking_entry)
        .catch(signals.ZEBRA_CLEAR, zebra_clear)
        .to_method()
    )

    control.nest(dark, parent=None).nest(lit, parent=None)
    for state in (driving, yielding, stopping, walking):
        control.nest(state, parent=lit)
    return control, dark


def to(control: Control, state: str) -> Any:
    """Go to a state by its name."""
    return control.trans(control.states[state].to_method())


# dark: waits for the key.


def switch_on(control: Control, e: Event) -> Any:
    return to(control, "lit")


# lit: around all the others.


def lit_entry(control: Control, e: Event) -> Any:
    control.transmit(Event(signal=signals.LIGHTS_ON))
    return return_status.HANDLED


def lit_init(control: Control, e: Event) -> Any:
    return to(control, "driving")


def lit_exit(control: Control, e: Event) -> Any:
    control.snoop_scribble(f"cars: {control.cars}, walks: {control.turn}")
    control.transmit(Event(signal=signals.LIGHTS_OFF))
    return return_status.HANDLED


def switch_off(control: Control, e: Event) -> Any:
    return to(control, "dark")


def button_later(control: Control, e: Event) -> Any:
    control.defer(e)  # a press is never forgotten
    return return_status.HANDLED


def car_passed(control: Control, e: Event) -> Any:
    control.cars += 1
    return return_status.HANDLED


# driving: the cars have green for a while, even if somebody asks.


def driving_entry(control: Control, e: Event) -> Any:
    control.transmit(Event(signal=signals.DRIVE, payload=control.turn))
    control.post_fifo(Event(signal=signals.ENOUGH), period=GREEN_AT_LEAST_S, times=1)
    return return_status.HANDLED


def driving_exit(control: Control, e: Event) -> Any:
    control.cancel_events(Event(signal=signals.ENOUGH))
    return return_status.HANDLED


def enough(control: Control, e: Event) -> Any:
    return to(control, "yielding")


# yielding: the cars have green until somebody asks, or has asked.


def yielding_entry(control: Control, e: Event) -> Any:
    control.recall()
    return return_status.HANDLED


def button_now(control: Control, e: Event) -> Any:
    control.snoop_scribble(f"the cars give way to {e.payload}")
    return to(control, "stopping")


# stopping: until the cars say that they stand.


def stopping_entry(control: Control, e: Event) -> Any:
    control.turn += 1
    control.transmit(Event(signal=signals.STOP, payload=control.turn))
    return return_status.HANDLED


def cars_stand(control: Control, e: Event) -> Any:
    return to(control, "walking") if e.payload == control.turn else return_status.HANDLED


# walking: until the other broker's chart says that nobody is on the road.


def walking_entry(control: Control, e: Event) -> Any:
    control.transmit(Event(signal=signals.WALK, payload=control.turn))
    return return_status.HANDLED


def zebra_clear(control: Control, e: Event) -> Any:
    return to(control, "driving") if e.payload == control.turn else return_status.HANDLED
