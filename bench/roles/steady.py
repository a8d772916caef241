"""A chart that transmits at a steady rate, and one that notes how long each event took."""

from __future__ import annotations

import threading
import time
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import BackPressure, Limits, NetworkedActiveObject

from .costs import resting
from .talk import PAYLOAD, asked, play, say

SLICE_S = 0.002

LATE_S = 0.05
"""Who is late by more does not catch up: a burst would be another load."""


def steady_send(chart: dict[str, Any], rate: float, limits: dict[str, Any], **_: Any) -> None:
    """Transmit the time at a rate, until the end.

    Asked for an address, it answers with the condition of the broker there; asked for a number of
    seconds, it waits for so long and answers with the time when that began and ended, the slowest
    ``transmit``, and how often it has raised.
    """
    stop = threading.Event()
    taken: list[float] = []
    refused: list[float] = []
    with NetworkedActiveObject("send", limits=Limits(**limits), **chart) as node:

        def stream() -> None:
            due_s = time.perf_counter()
            while not stop.wait(SLICE_S):
                now_s = time.perf_counter()
                if now_s - due_s > LATE_S:
                    due_s = now_s
                while due_s <= now_s:
                    began_s = time.perf_counter()
                    try:
                        node.transmit(Event(signal=signals.PING, payload=(began_s, PAYLOAD)))
                    except BackPressure:
                        refused.append(began_s)
                    taken.append(time.perf_counter() - began_s)
                    due_s += 1 / rate

        node.start_at(resting)
        assert node.nets.wait_for_peers(2, 5)
        streaming = threading.Thread(target=stream)
        streaming.start()
        say("ready")
        for order in asked():
            if isinstance(order, str):
                say(node.nets.stats().mesh.brokers[order].condition.name)
                continue
            taken.clear()
            refused.clear()
            began_s = time.perf_counter()
            time.sleep(order)
            ended_s = time.perf_counter()
            say(
                {
                    "began_s": began_s,
                    "ended_s": ended_s,
                    "slowest_s": max(taken, default=ended_s - began_s),
                    "refused": len(refused),
                }
            )
        stop.set()
        streaming.join()


@spy_on
def timing(chart: Any, e: Event) -> Any:
    """Notes when each event was transmitted and how long it took."""
    if e.signal == signals.PING:
        sent_s = e.payload[0]
        # The clock is the same in all processes of a machine.
        chart.taken.append((sent_s, time.perf_counter() - sent_s))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def steady_receive(chart: dict[str, Any], **_: Any) -> None:
    """Hear them; asked for two times, answer what each took that was transmitted between them."""
    with NetworkedActiveObject("receive", **chart) as node:
        node.taken = []
        node.start_at(timing)
        assert node.nets.wait_for_peers(2, 5)
        say("ready")
        for began_s, ended_s in asked():
            taken, node.taken = node.taken, []
            say([took_s for sent_s, took_s in taken if began_s <= sent_s < ended_s])


if __name__ == "__main__":
    play(globals())
