"""The light for people, with its button and those who press it: flat state functions.

::

    dark <──> lit: red_man ──PERSON──> asked ──WALK──> green_man ──> blinking ──> red_man

It hears LIGHTS_ON, LIGHTS_OFF and WALK of ``control``, and transmits BUTTON and ZEBRA_CLEAR. It
runs at another broker than the other two charts; nothing in this file depends on that.
"""

from __future__ import annotations

from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

PERSON_COMES_S = 1.2
WALK_S = 1.4
BLINK_S = 0.6
NAMES = ("a jogger", "a dog walker", "a pupil", "a courier", "a tourist")


class People(NetworkedActiveObject):
    """The chart, and what it remembers."""

    came = 0  # persons so far
    turn = 0  # the number of the WALK that is being obeyed


def make(**network: Any) -> tuple[People, Any]:
    """Make the chart, and name the state it starts in."""
    return People("people", **network), dark


@spy_on
def dark(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.LIGHTS_ON:
        status = people.trans(red_man)
    else:
        status, people.temp.fun = return_status.SUPER, people.top
    return status


@spy_on
def lit(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.LIGHTS_OFF:
        status = people.trans(dark)
    else:
        status, people.temp.fun = return_status.SUPER, people.top
    return status


@spy_on
def red_man(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        people.post_fifo(Event(signal=signals.PERSON), period=PERSON_COMES_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        people.cancel_events(Event(signal=signals.PERSON))
        status = return_status.HANDLED
    elif e.signal == signals.PERSON:
        name = NAMES[people.came % len(NAMES)]
        people.came += 1
        people.snoop_scribble(f"{name} presses the button")
        people.transmit(Event(signal=signals.BUTTON, payload=name))  # any plain data may travel
        status = people.trans(asked)
    else:
        status, people.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def asked(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.WALK:
        people.turn = e.payload
        status = people.trans(green_man)
    else:
        status, people.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def green_man(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        people.post_fifo(Event(signal=signals.WALK_OVER), period=WALK_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        people.cancel_events(Event(signal=signals.WALK_OVER))
        status = return_status.HANDLED
    elif e.signal == signals.WALK_OVER:
        status = people.trans(blinking)
    else:
        status, people.temp.fun = return_status.SUPER, lit
    return status


@spy_on
def blinking(people: People, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        people.post_fifo(Event(signal=signals.BLINK_OVER), period=BLINK_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        people.cancel_events(Event(signal=signals.BLINK_OVER))
        status = return_status.HANDLED
    elif e.signal == signals.BLINK_OVER:
        people.transmit(Event(signal=signals.ZEBRA_CLEAR, payload=people.turn))
        status = people.trans(red_man)
    else:
        status, people.temp.fun = return_status.SUPER, lit
    return status
