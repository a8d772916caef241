"""A sender in a process of its own, which may be stopped or killed at any moment.

Run as ``python -m tests.faults.sender RATE PROGRESS``: it transmits the numbers from 0, RATE a
second (0: as fast as it can), and keeps in the file PROGRESS how many were accepted. The chart's
arguments come pickled and in hexadecimal on the first line of standard input. After the next line
it flushes, and reports in one line of JSON. `SenderProcess` is its other end.
"""

from __future__ import annotations

import json
import mmap
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from miros import Event

from miros_rabbitmq import BackPressure

from ..broker.charts import listening, make_active_object
from ..helpers import scaled
from .fleet import FLAT_OUT, SENDER

_BYTES = 8


class SenderProcess:
    """The process as the test sees it; it transmits from when it is made."""

    def __init__(self, process: subprocess.Popen[str], progress: Path) -> None:
        self.process, self._progress = process, progress

    @property
    def accepted(self) -> int:
        """How many events ``transmit`` has accepted, also of a process that was killed."""
        return int.from_bytes(self._progress.read_bytes(), "little")

    def finish(self) -> dict[str, Any]:
        """Let it stop, and return its report."""
        output, _ = self.process.communicate("\n", timeout=scaled(60))
        assert self.process.returncode == 0
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report


@contextmanager
def sender_process(arguments: dict[str, Any], rate: float) -> Iterator[SenderProcess]:
    """Start one; in the end it is killed, if it has not ended."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(_BYTES))
        file.flush()
        command = [sys.executable, "-m", "tests.faults.sender", str(rate), file.name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdin is not None
                process.stdin.write(pickle.dumps(arguments).hex() + "\n")
                process.stdin.flush()
                yield SenderProcess(process, Path(file.name))
            finally:
                process.kill()


def main(rate: float, progress: str) -> None:
    """Transmit until there is a line to read."""
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, _ = make_active_object(SENDER, **arguments)
    asked = threading.Event()

    def wait_for_a_line() -> None:
        sys.stdin.readline()
        asked.set()

    with open(progress, "r+b") as file, mmap.mmap(file.fileno(), _BYTES) as accepted, chart:
        chart.start_at(listening)
        assert chart.nets.wait_for_peers(len(arguments["addresses"]) - 1, scaled(25))
        threading.Thread(target=wait_for_a_line, daemon=True).start()
        number = refused = 0
        slowest_s = 0.0
        due_s = time.perf_counter()
        while not asked.is_set():
            began_s = time.perf_counter()
            try:
                payload = (SENDER, number, began_s, b"")
                chart.transmit(Event(signal="NUMBER", payload=payload))
            except BackPressure:
                refused += 1
                continue
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
            number += 1
            accepted[:] = number.to_bytes(_BYTES, "little")
            if rate != FLAT_OUT:
                due_s = max(due_s, began_s - 0.05) + 1 / rate
                asked.wait(max(0.0, due_s - time.perf_counter()))
        flushed = chart.nets.flush(scaled(25))
        mesh = chart.nets.stats().mesh
        report = {
            "accepted": number,
            "refused": refused,
            "slowest_s": slowest_s,
            "flushed": flushed,
            "dropped": {at: one.dropped for at, one in mesh.brokers.items()},
            "conditions": {at: one.condition.name for at, one in mesh.brokers.items()},
        }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
