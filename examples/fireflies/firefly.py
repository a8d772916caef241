"""A firefly: a chart that blinks, and that blinks a little sooner whenever another one does.

::

    flying ──THUNDER──> hiding
      glowing ──GLOWN──> dark                  hiding ──CALM──> watchful
        dark: blind ──TICK──> watchful ──TICK, FLASH──> glowing

Every firefly has the same three rules and knows nobody: each flash is an event on the mesh, which
all others hear. Still they come to blink as one (Mirollo and Strogatz, "Synchronization of
pulse-coupled biological oscillators", 1990):

1. A firefly flashes when its time is up, and then starts anew.
2. Whenever it sees a flash, its time is up a little sooner; more so the nearer the other is, and
   the nearer its time is to its end.
3. Just after its own flash it is blind.

``watch.py`` starts some processes of this program, with some fireflies in each.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import Limits, NetworkedActiveObject

PERIOD_S = 1.8
"""The time from flash to flash, if no other is seen."""

DIFFERENCE = 0.03
"""Each has a period of its own, which differs from this by so much at most."""

GLOW_S = 0.25
BLIND_S = 0.45
TICK_S = 0.04
HIDES_SHORTEST_S, HIDES_LONGEST_S = 1.0, 3.5

BEND = 3.0
STRENGTH = 0.016
REACH = 0.45
"""How far a flash is seen well, as a part of the meadow's width."""

SPEED = 0.05
"""The parts of the meadow that a firefly crosses in a second."""


class Firefly(NetworkedActiveObject):
    """The chart, and what it remembers.

    Args:
        number: tells fireflies apart.
        network: the other arguments of the chart.
    """

    def __init__(self, number: int, **network: Any) -> None:
        super().__init__(f"firefly {number}", **network)
        self.number = number
        self.period_s = PERIOD_S * random.uniform(1 - DIFFERENCE, 1 + DIFFERENCE)
        self.flashes_at_s = 0.0
        self.x, self.y = random.uniform(0.05, 0.95), random.uniform(0.25, 0.9)
        self.dx = self.dy = 0.0  # a second
        self.moved_at_s = time.monotonic()

    def wait_for(self, part: float) -> None:
        """Flash when this part of the period is over."""
        self.flashes_at_s = time.monotonic() + part * self.period_s

    def is_time(self) -> bool:
        """Whether to flash now."""
        return time.monotonic() >= self.flashes_at_s

    def is_nudged_by(self, flash: dict[str, Any]) -> bool:
        """Take note of another's flash; returns whether to flash now, too."""
        distance = math.hypot(flash["x"] - self.x, flash["y"] - self.y)
        push = BEND * STRENGTH * math.exp(-distance / REACH)
        left = self.flashes_at_s - time.monotonic()
        phase = 1 - max(0.0, left) / self.period_s  # from 0 to 1, where it flashes
        nudged = math.exp(push) * phase + math.expm1(push) / math.expm1(BEND)
        self.wait_for(max(0.0, 1 - nudged))
        return nudged >= 1

    def fly(self) -> None:
        """Be where the last flight has led, and choose the next one: at random, and inwards."""
        now_s = time.monotonic()
        self.x += self.dx * (now_s - self.moved_at_s)
        self.y += self.dy * (now_s - self.moved_at_s)
        self.moved_at_s = now_s
        angle = random.uniform(0, 2 * math.pi)
        self.dx = SPEED * (math.cos(angle) + (0.5 - self.x))
        self.dy = SPEED * (math.sin(angle) + 2 * (0.55 - self.y))

    def flash(self) -> None:
        """Let all others see it."""
        self.fly()
        flash = {"number": self.number, "x": self.x, "y": self.y, "dx": self.dx, "dy": self.dy}
        self.transmit(Event(signal=signals.FLASH, payload=flash))


@spy_on
def flying(fly: Firefly, e: Event) -> Any:
    """The outer state: has the clock, and fears thunder."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        fly.post_fifo(Event(signal=signals.TICK), period=TICK_S)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        fly.cancel_events(Event(signal=signals.TICK))
        status = return_status.HANDLED
    elif e.signal == signals.THUNDER:
        status = fly.trans(hiding)
    else:
        status, fly.temp.fun = return_status.SUPER, fly.top
    return status


@spy_on
def glowing(fly: Firefly, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        fly.flash()
        fly.wait_for(1.0)
        fly.post_fifo(Event(signal=signals.GLOWN), period=GLOW_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        fly.cancel_events(Event(signal=signals.GLOWN))
        status = return_status.HANDLED
    elif e.signal == signals.GLOWN:
        status = fly.trans(blind)
    else:
        status, fly.temp.fun = return_status.SUPER, flying
    return status


@spy_on
def dark(fly: Firefly, e: Event) -> Any:
    """Between two flashes: flashes when the time is up."""
    status = return_status.UNHANDLED
    if e.signal == signals.TICK and fly.is_time():
        status = fly.trans(glowing)
    else:
        status, fly.temp.fun = return_status.SUPER, flying
    return status


@spy_on
def blind(fly: Firefly, e: Event) -> Any:
    """Dazzled by its own flash: sees no other."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        fly.post_fifo(Event(signal=signals.SEES_AGAIN), period=BLIND_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        fly.cancel_events(Event(signal=signals.SEES_AGAIN))
        status = return_status.HANDLED
    elif e.signal == signals.SEES_AGAIN:
        status = fly.trans(watchful)
    else:
        status, fly.temp.fun = return_status.SUPER, dark
    return status


@spy_on
def watchful(fly: Firefly, e: Event) -> Any:
    """Sees the flashes of others, and flashes sooner."""
    status = return_status.UNHANDLED
    if e.signal == signals.FLASH:
        status = fly.trans(glowing) if fly.is_nudged_by(e.payload) else return_status.HANDLED
    else:
        status, fly.temp.fun = return_status.SUPER, dark
    return status


@spy_on
def hiding(fly: Firefly, e: Event) -> Any:
    """In the grass, until it has forgotten the thunder, and the others."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        hides_s = random.uniform(HIDES_SHORTEST_S, HIDES_LONGEST_S)
        fly.post_fifo(Event(signal=signals.CALM), period=hides_s, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        fly.cancel_events(Event(signal=signals.CALM))
        status = return_status.HANDLED
    elif e.signal == signals.CALM:
        fly.wait_for(random.random())
        status = fly.trans(watchful)
    else:
        status, fly.temp.fun = return_status.SUPER, fly.top
    return status


def end_with_standard_input() -> None:
    """End this process when the one that has started it is gone, also while it still starts."""
    os.read(sys.stdin.fileno(), 1)  # no lock of Python's, which could be held at the end
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run some fireflies until standard input ends: until the program that has started this one."""
    parser = argparse.ArgumentParser(description="Some fireflies; watch.py runs this.")
    parser.add_argument("numbers", nargs="+", type=int)
    parser.add_argument("--host", required=True, help="the broker, host:port")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    flies = [
        Firefly(
            number,
            rabbit_user=os.environ["RABBIT_USER"],
            rabbit_password=os.environ["RABBIT_PASSWORD"],
            mesh_encryption_key=os.environ["MESH_KEY"],
            rabbit_host=options.host,
            addresses=[],
            durable=False,  # a flash is of no use after a restart of the broker
            limits=Limits(stop_timeout_s=1.0),  # nor worth a wait at the end
        )
        for number in options.numbers
    ]
    for fly in flies:
        fly.wait_for(random.random())
        fly.start_at(watchful)
    flies[0].wait()


if __name__ == "__main__":
    main()
