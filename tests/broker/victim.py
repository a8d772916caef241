"""A chart in a process of its own, for what is measured or changed in a whole process.

Run as ``python -m tests.broker.victim NAME < arguments``. The chart's arguments come pickled and in
hexadecimal on the first line of standard input. Each further line is an order: ``report``, ``clock
SECONDS`` to set the wall clock wrong by so much, or ``end``; each is answered by a line.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_wrong_by_s = 0.0
_true_time = time.time


def _wall_clock() -> float:
    return _true_time() + _wrong_by_s


class Report(NamedTuple):
    """What has become of a victim."""

    heard: list[tuple[str, Any]]
    rejected: dict[str, int]
    """By the names of the reasons."""
    received: int
    duplicates: int
    own: int
    memory_mib: float
    """What it has in memory, without what it shares."""
    cpu_s: float
    """The processor time of its process so far."""


class Victim:
    """The process, as its test sees it."""

    def __init__(self, name: str, clock_s: float, arguments: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.victim", name, str(clock_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.ask(pickle.dumps(arguments).hex())

    def ask(self, order: str) -> str:
        """Give an order, and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, "the victim has ended"
        return answer

    def report(self) -> Report:
        """Ask what has become of it."""
        return Report(*pickle.loads(bytes.fromhex(self.ask("report"))))

    def set_clock(self, wrong_by_s: float) -> None:
        """Set its wall clock wrong by so many seconds."""
        self.ask(f"clock {wrong_by_s}")


@contextmanager
def victim(name: str, arguments: dict[str, Any], clock_s: float = 0.0) -> Iterator[Victim]:
    """Run a victim.

    Args:
        name: the name of its chart.
        arguments: those of its chart.
        clock_s: by how much its wall clock is wrong from the beginning.
    """
    one = Victim(name, clock_s, arguments)
    try:
        yield one
        one.ask("end")
        assert one.process.wait(30) == 0
    finally:
        one.process.kill()
        one.process.communicate()


def memory_mib() -> float:
    """The process's own part of what it has in memory."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(name: str, clock_s: float) -> None:
    """Play the victim."""
    global _wrong_by_s
    _wrong_by_s = clock_s
    time.time = _wall_clock  # before anything has taken the true one
    from .charts import make_active_object, running

    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, record = make_active_object(name, **arguments)
    with running(chart):
        tell("ready")
        for line in sys.stdin:
            order, _, argument = line.strip().partition(" ")
            if order == "end":
                break
            if order == "clock":
                _wrong_by_s = float(argument)
                tell("set")
                continue
            cpu_s = time.process_time()
            mesh = chart.nets.stats().mesh
            report = Report(
                list(record.heard),
                {reason.name: count for reason, count in mesh.rejected.items()},
                mesh.received,
                mesh.duplicates,
                mesh.own,
                memory_mib(),
                cpu_s,
            )
            tell(pickle.dumps(tuple(report)).hex())
    tell("ended")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
