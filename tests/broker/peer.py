"""A chart in a process of its own: transmits numbers, notes what it hears, and reports.

Run as ``python -m tests.broker.peer NAME COUNT < arguments``: the chart's arguments come pickled
and in hexadecimal on the first line of standard input; each further line is waited for where the
tests want to be in step; the report goes to standard output.
"""

from __future__ import annotations

import pickle
import sys

from miros import Event

from ..helpers import scaled
from .charts import make_active_object, running


def main(name: str, count: int) -> None:
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, record = make_active_object(name, **arguments)
    with running(chart, peers=1):
        tell("ready")
        sys.stdin.readline()
        for number in range(count):
            chart.transmit(Event(signal="NUMBER", payload=number))
        record.wait_for(count, 30)
        assert chart.nets.flush(scaled(25))
        # A second copy of an event, or an event of the chart itself, would come with the rest.
        tell("done")
        sys.stdin.readline()
        mesh = chart.nets.stats().mesh
    report = {
        "heard": record.payloads("NUMBER"),
        "gaps": mesh.gaps,
        "confirmed": mesh.confirmed,
        "own": mesh.own,
    }
    tell(pickle.dumps(report).hex())


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
