"""Charts that talk to each other, as users of this package write them."""

from __future__ import annotations

import threading
import time
from typing import Any

from miros import Event, signals

from miros_rabbitmq import NetworkedActiveObject

from .alone import counting
from .hooks import Hooks
from .talk import PAYLOAD, QUIET_S, asked, hear, play, say
from .trips import echoing, pinging, time_trips


def make_chart(name: str, chart: dict[str, Any]) -> NetworkedActiveObject:
    """A chart with the arguments the benchmark gives."""
    return NetworkedActiveObject(name, **chart)


def chart_echo(chart: dict[str, Any], **_: Any) -> None:
    """The answering chart."""
    with make_chart("echo", chart) as node:
        node.start_at(echoing)
        node.nets.wait_for_peers(1, 5)
        say("ready")
        hear()


def chart_ping(chart: dict[str, Any], quiet_s: float = QUIET_S, **_: Any) -> None:
    """The asking chart."""
    with make_chart("ping", chart) as node:
        node.answered = threading.Event()
        node.start_at(pinging)
        node.nets.wait_for_peers(1, 5)
        say("ready")
        time_trips(node, quiet_s)


def chart_send(chart: dict[str, Any], pause_s: float = 0.0, hooked: bool = False, **_: Any) -> None:
    """The transmitting chart, as fast as possible or with a pause after each event."""
    hooks = Hooks(hooked)
    with make_chart("send", chart) as node:
        node.start_at(pinging)
        node.nets.wait_for_peers(1, 5)
        say("ready")
        for count in asked():
            hooks.begin()
            began = time.time()
            for _number in range(count):
                node.transmit(Event(signal=signals.PING, payload=PAYLOAD))
                if pause_s:
                    time.sleep(pause_s)
            node.nets.flush(60)
            say({"began": began, **hooks.report(count)})


def chart_receive(chart: dict[str, Any], hooked: bool = False, **_: Any) -> None:
    """The receiving chart."""
    hooks = Hooks(hooked)
    with make_chart("receive", chart) as node:
        node.count = node.expected = 0
        node.done = threading.Event()
        node.start_at(counting)
        node.nets.wait_for_peers(1, 5)
        say("ready")
        for count in asked():
            node.expected += count
            node.done.clear()
            hooks.begin()
            say("ready")
            node.done.wait(120)
            say({"ended": node.ended, **hooks.report(count)})


if __name__ == "__main__":
    play(globals())
