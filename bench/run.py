"""Runs every peer in one go on two private brokers, and prints figures and ratios.

Absolute figures are those of the machine and of its other business; the ratios of one run are
what counts. Each measurement is taken several times, the peers in turn, and the median counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "bench.json"


class Role:
    """A process that plays one part (see `roles`)."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.roles", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.tell(arguments)

    def tell(self, what: Any) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} has ended")
        return json.loads(line)


@contextlib.contextmanager
def roles(*parts: tuple[str, dict[str, Any]]) -> Iterator[list[Role]]:
    """Start roles, each when the one before is ready; end them."""
    playing: list[Role] = []
    try:
        for name, arguments in parts:
            playing.append(Role(name, arguments))
            assert playing[-1].hear() == "ready"
        yield playing
    finally:
        for role in playing:
            role.process.kill()
            role.process.communicate()


class Stage:
    """Two brokers, and the measurements that are taken on them."""

    def __init__(self, a: LocalBroker, b: LocalBroker) -> None:
        key = Fernet.generate_key().decode()
        addresses = [str(a.address), str(b.address)]
        self._urls = str(a.url()), str(b.url())
        self._charts = [
            {
                "rabbit_user": own.user,
                "rabbit_password": own.password,
                "mesh_encryption_key": key,
                "rabbit_host": own.host,
                "rabbit_port": own.port,
                "addresses": addresses,
            }
            for own in (a, b)
        ]

    def round_trip(self, kind: str, count: int) -> list[float]:
        """Seconds of round trips, one after the other; the first tenth warms up."""
        parts = ((f"{kind}_echo", self._at(1, 0)), (f"{kind}_ping", self._at(0, count)))
        with roles(*parts) as (echoing, pinging):
            pinging.tell("go")
            times: list[float] = pinging.hear()["times"]
            echoing.tell("stop")
        return times[len(times) // 10 :]

    def throughput(self, sender: str, receiver: str, count: int) -> float:
        """Events a second, from the first sent to the last handled."""
        with roles((receiver, self._at(1, count)), (sender, self._at(0, count))) as playing:
            receiving, sending = playing
            sending.tell("go")
            ended: float = receiving.hear()["ended"]
            began: float = sending.hear()["began"]
        return count / (ended - began)

    def alone(self, count: int) -> float:
        """Events a second of miros without a network."""
        with roles(("miros_alone", {"count": count})) as (role,):
            role.tell("go")
            report = role.hear()
        return float(count / (report["ended"] - report["began"]))

    def _at(self, own: int, count: int) -> dict[str, Any]:
        """The arguments of a role that consumes at one broker and publishes to the other."""
        return {
            "in_url": self._urls[own],
            "out_url": self._urls[1 - own],
            "chart": self._charts[own],
            "count": count,
        }


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    ratio: float
    """To raw pika in the same run."""
    target: str


def measure(stage: Stage, events: int, trips: int, runs: int) -> list[Figure]:
    """Take every measurement."""
    times: dict[str, list[list[float]]] = {"raw": [], "chart": []}
    rates: dict[str, list[float]] = {"raw": [], "chart": [], "aio": [], "blocking": [], "alone": []}
    for _ in range(runs):
        for kind, taken in times.items():
            taken.append(stage.round_trip(kind, trips))
        rates["raw"].append(stage.throughput("raw_send", "raw_receive", events))
        rates["chart"].append(stage.throughput("chart_send", "chart_receive", events))
        rates["aio"].append(stage.throughput("aio_send", "raw_receive", events // 2))
        rates["blocking"].append(stage.throughput("blocking_send", "raw_receive", events // 10))
        rates["alone"].append(stage.alone(events))
    median = {kind: middle(map(statistics.median, taken)) * 1e3 for kind, taken in times.items()}
    p99 = {kind: middle(map(percentile_99, taken)) * 1e3 for kind, taken in times.items()}
    rate = {kind: middle(taken) for kind, taken in rates.items()}
    return [
        Figure("round trip, raw pika, median", median["raw"], "ms", 1.0, ""),
        Figure(
            "round trip, charts, median",
            median["chart"],
            "ms",
            median["chart"] / median["raw"],
            "<= 1.5",
        ),
        Figure("round trip, raw pika, 99th percentile", p99["raw"], "ms", 1.0, ""),
        Figure(
            "round trip, charts, 99th percentile",
            p99["chart"],
            "ms",
            p99["chart"] / p99["raw"],
            "<= 2",
        ),
        Figure("throughput, raw pika", rate["raw"], "events/s", 1.0, ""),
        Figure(
            "throughput, chart to chart",
            rate["chart"],
            "events/s",
            rate["chart"] / rate["raw"],
            ">= 1.2",
        ),
        Figure("throughput, aio-pika", rate["aio"], "events/s", rate["aio"] / rate["raw"], ""),
        Figure(
            "throughput, pika BlockingConnection",
            rate["blocking"],
            "events/s",
            rate["blocking"] / rate["raw"],
            "",
        ),
        Figure(
            "miros alone, no network", rate["alone"], "events/s", rate["alone"] / rate["raw"], ""
        ),
    ]


def middle(values: Any) -> float:
    """The median of the runs."""
    return float(statistics.median(list(values)))


def percentile_99(times: list[float]) -> float:
    """The time that 99 of 100 round trips stay below."""
    return statistics.quantiles(times, n=100)[98]


def show(figures: list[Figure]) -> None:
    """Print the table."""
    print(f"{'':40}{'':>12}{'':10}{'ratio to raw':>12}  target")
    for figure in figures:
        print(
            f"{figure.name:40}{figure.value:>12,.2f} {figure.unit:9}{figure.ratio:>12.2f}"
            f"  {figure.target}"
        )


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description="This package beside raw pika and others.")
    parser.add_argument("--events", type=int, default=20_000, help="of a throughput measurement")
    parser.add_argument("--trips", type=int, default=1_000, help="of a round-trip measurement")
    parser.add_argument("--runs", type=int, default=3, help="of everything; the median counts")
    arguments = parser.parse_args()
    with LocalBroker("127.0.0.2") as a, LocalBroker("127.0.0.3", password=a.password) as b:
        figures = measure(Stage(a, b), arguments.events, arguments.trips, arguments.runs)
    show(figures)
    RESULTS.write_text(json.dumps([figure._asdict() for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
