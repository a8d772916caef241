"""A chart that is slow to handle large events, in a process of its own so that its memory counts.

Run as ``python -m tests.broker.hoarder``. The chart's arguments come pickled and in hexadecimal on
standard input. When it listens, it writes ``ready``; when it has had ``seconds`` to hoard events,
by how many MiB its memory has grown at most, and how many events its FIFO held at most.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

from ..helpers import scaled, wait_until


@spy_on
def slow(chart: Any, e: Event) -> Any:
    """Take a while for each event."""
    if e.signal == signals.LARGE:
        chart.handled += 1
        time.sleep(0.02)
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def memory_mib() -> float:
    """What this process holds now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError


def main() -> None:
    """Hoard what comes."""
    count, arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    signals.append("LARGE")
    with NetworkedActiveObject("hoarder", **arguments) as chart:
        chart.handled = 0
        chart.start_at(slow)
        before = memory_mib()
        print("ready", flush=True)
        most_mib, most_events = 0.0, 0

        def all_are_handled() -> bool:
            nonlocal most_mib, most_events
            most_mib = max(most_mib, memory_mib() - before)
            most_events = max(most_events, len(chart.queue))
            handled = chart.handled
            return bool(handled == count)

        wait_until(all_are_handled, scaled(60), lambda: f"handled {chart.handled}")
        print(most_mib, most_events, flush=True)


if __name__ == "__main__":
    main()
