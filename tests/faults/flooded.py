"""One side of a flood in a process of its own, so that its memory can be measured.

Run as ``python -m tests.faults.flooded send|receive COUNT``. The chart's arguments come pickled and
in hexadecimal on the first line of standard input; the report goes to standard output.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

from miros import Event

from miros_rabbitmq import NetworkedActiveObject

from ..broker.charts import Record, listening, make_active_object
from ..helpers import scaled, wait_until

WORK_S = 0.0002
"""What the receiving chart needs for an event."""


class Working(Record):
    """Checks the order, keeps nothing, and works for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.next = 0
        self.wrong = 0

    def note(self, event: Event) -> None:
        self.wrong += event.payload != self.next
        self.next = event.payload + 1
        ends_s = time.perf_counter() + WORK_S
        while time.perf_counter() < ends_s:
            pass


def memory_mib(field: str) -> float:
    """VmRSS, what this process holds now, or VmHWM, the most it ever held."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def send(chart: NetworkedActiveObject, count: int) -> None:
    """As fast as ``transmit`` returns."""
    for number in range(count):
        chart.transmit(Event(signal="NUMBER", payload=number))
    assert chart.nets.flush(scaled(60))


def receive(chart: NetworkedActiveObject, count: int) -> None:
    """All of them, each once, in order."""
    record = chart.record
    wait_until(lambda: record.next >= count, 110, lambda: f"{count}; at {record.next}")
    assert not record.wrong, f"{record.wrong} out of order"


def main(role: str, count: int) -> None:
    """Take part, and report peak memory above that before the flood, and events a second."""
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, _ = make_active_object(role, **arguments)
    chart.record = Working()
    chart.start_at(listening)
    assert chart.nets.wait_for_peers(1, scaled(25))
    before_mib = memory_mib("VmRSS")
    print("ready", flush=True)
    sys.stdin.readline()
    began_s = time.monotonic()
    (send if role == "send" else receive)(chart, count)
    rate = count / (time.monotonic() - began_s)
    chart.stop()
    print(f"{memory_mib('VmHWM') - before_mib:.1f} {rate:.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
