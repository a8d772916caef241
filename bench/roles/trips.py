"""The charts of a round trip: the same for this package and for the floor.

Nothing of the package may be imported here, as in `alone`.
"""

from __future__ import annotations

import time
from typing import Any

from miros import Event, return_status, signals, spy_on

from .talk import PAYLOAD, asked, say


@spy_on
def echoing(chart: Any, e: Event) -> Any:
    """Answers each PING."""
    if e.signal == signals.PING:
        chart.transmit(Event(signal=signals.PONG, payload=e.payload))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def pinging(chart: Any, e: Event) -> Any:
    """Asks at each GO, and notes how long the answer took."""
    if e.signal == signals.GO:
        chart.began = time.perf_counter()
        chart.transmit(Event(signal=signals.PING, payload=PAYLOAD))
        return return_status.HANDLED
    if e.signal == signals.PONG:
        chart.times.append(time.perf_counter() - chart.began)
        chart.answered.set()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def time_trips(chart: Any, quiet_s: float) -> None:
    """Have a chart that is `pinging` make as many round trips as are asked for, and tell the times.

    Args:
        chart: has an event ``answered``.
        quiet_s: the silence after each, in seconds.
    """
    for count in asked():
        chart.times = []
        for _number in range(count):
            chart.answered.clear()
            chart.post_fifo(Event(signal=signals.GO))
            assert chart.answered.wait(5)
            time.sleep(quiet_s)  # the silence is what is measured
        say({"times": chart.times})
