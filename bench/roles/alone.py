"""miros without a network, in a process of its own.

Nothing of the package may be imported here, not even by way of another role: its networked objects
guard miros's registry of signals, which makes miros itself faster.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from miros import ActiveObject, Event, return_status, signals, spy_on

from .talk import asked, play, say


@spy_on
def counting(chart: Any, e: Event) -> Any:
    """Counts each PING."""
    if e.signal == signals.PING:
        chart.count += 1
        if chart.count == chart.expected:
            chart.ended = time.time()
            chart.done.set()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def miros_alone(**_: Any) -> None:
    """What miros's own event processor handles."""
    assert "miros_rabbitmq" not in sys.modules
    chart = ActiveObject("alone")
    chart.count = chart.expected = 0
    chart.done = threading.Event()
    chart.start_at(counting)
    say("ready")
    for count in asked():
        chart.expected += count
        chart.done.clear()
        began = time.time()
        for number in range(count):
            while len(chart.queue) > 400:
                time.sleep(0.0005)  # miros silently drops events beyond 500
            chart.post_fifo(Event(signal=signals.PING, payload=number))
        chart.done.wait(60)
        say({"began": began, "ended": chart.ended})
    chart.stop()


if __name__ == "__main__":
    play(globals())
