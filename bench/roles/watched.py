"""A chart whose transitions are watched, by miros's live trace or by the snoop."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

from .talk import hear, play, say

BATCH = 200
"""The most events that wait in the FIFO when the chart works as fast as it can."""


class TimedChart(NetworkedActiveObject):
    """Adds up how long it is busy with events: by the clock, and in processor time."""

    busy_s = 0.0
    cpu_s = 0.0
    handled = 0

    def next_rtc(self) -> bool:
        """Handle the next event, with everything that watches it."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        taken: bool = super().next_rtc()
        self.cpu_s += time.thread_time() - cpu_s
        self.busy_s += time.perf_counter() - wall_s
        self.handled += 1
        return taken


@spy_on
def left(chart: Any, e: Event) -> Any:
    """One of two states; each TURN is a transition."""
    if e.signal == signals.TURN:
        return chart.trans(right)
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def right(chart: Any, e: Event) -> Any:
    """The other."""
    if e.signal == signals.TURN:
        return chart.trans(left)
    chart.temp.fun = chart.top
    return return_status.SUPER


def watched(chart: dict[str, Any], kind: str, rate: float, seconds: float, **_: Any) -> None:
    """Handle events at a rate, or as fast as possible for 0.

    The lines go to a stream that flushes after each, as a terminal's does, and that nobody has to
    read.
    """
    sys.stdout = open(os.devnull, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    with TimedChart("watched", **chart) as node:
        node.live_trace = kind == "live"
        if kind == "snoop":
            node.enable_snoop_trace()
        node.start_at(left)
        assert node.nets.wait_for_peers(1, 5)
        time.sleep(0.5)  # the connections of the snoop come after
        say("ready")
        hear()
        _drive(node, rate, min(0.5, seconds))
        node.busy_s = node.cpu_s = 0.0
        node.handled = 0
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        _drive(node, rate, seconds)
        wall_s = time.perf_counter() - wall_s
        cpu_s = time.process_time() - cpu_s
        handled = node.handled
        lines = node.nets.stats().snoop_trace
        report = {
            "busy_us": node.busy_s / handled * 1e6,
            "chart_cpu_us": node.cpu_s / handled * 1e6,
            "process_cpu_us": cpu_s / handled * 1e6,
            "rate": handled / wall_s,
            "lines_transmitted": lines.transmitted,
            "lines_dropped": sum(lines.dropped.values()),
        }
    say(report)
    sys.stdout.flush()
    # miros's thread that writes the live trace is a daemon in the middle of a line.
    os._exit(0)


def _drive(node: TimedChart, rate: float, seconds: float) -> None:
    """Post events, and return when the last is handled."""
    begin_s = time.perf_counter()
    if rate:
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begin_s + number / rate - time.perf_counter()))
            node.post_fifo(Event(signal=signals.TURN))
    else:
        while time.perf_counter() < begin_s + seconds:
            for _ in range(BATCH):
                node.post_fifo(Event(signal=signals.TURN))
            _wait_until_idle(node)
    _wait_until_idle(node)


def _wait_until_idle(node: TimedChart) -> None:
    deadline_s = time.perf_counter() + 30
    while len(node.queue) and time.perf_counter() < deadline_s:
        time.sleep(0.0005)


if __name__ == "__main__":
    play(globals())
