"""Runs every measurement in one go on private brokers, prints figures, and keeps them.

Absolute figures depend on the machine and on its other work; the ratios of one run count. Peers are
measured in turn, several times, and the median counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    breakdown,
    costs,
    counts,
    isolation,
    many,
    plots,
    process,
    report,
    sizes,
    tempo,
    tls,
    traffic,
)
from .figure import Result, Size
from .stage import ROOT, machine, open_stage, open_wide

PAIR: dict[str, Callable[[Any, Size], Result]] = {
    "round_trip": traffic.round_trip,
    "dense": traffic.dense,
    "throughput": traffic.throughput,
    "idle": costs.idle,
    "start": costs.start,
    "process": process.process,
    "trace": costs.trace,
    "pid": tempo.pid,
    "breakdown": breakdown.breakdown,
    "counts": counts.counts,
    "sizes": sizes.sizes,
    "many": many.many,
    "fleet": many.fleet,
    "keys": many.keys,
}
"""Measurements on two nodes."""

WIDE: dict[str, Callable[[Any, Size], Result]] = {
    "transmit": costs.transmit,
    "peers": costs.peers,
}
"""Measurements on one node with many virtual hosts."""

TRIO: dict[str, Callable[[Any, Size], Result]] = {"isolation": isolation.isolation}
"""Measurements on three nodes, of which one gets sick."""

SECURE: dict[str, Callable[[Any, Size], Result]] = {"tls": tls.tls}
"""Measurements on two nodes that take TLS."""

EVERYTHING = (*PAIR, *SECURE, *WIDE, *TRIO)


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description="This package beside raw pika and others.")
    parser.add_argument("--events", type=int, default=20_000, help="of a throughput measurement")
    parser.add_argument("--trips", type=int, default=600, help="of a round-trip measurement")
    parser.add_argument("--runs", type=int, default=4, help="of what varies; the median counts")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        help=f"some of {','.join(EVERYTHING)}; figures are then printed and not kept",
    )
    parser.add_argument("--out", type=Path, help="the folder to keep them in; default docs")
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - set(EVERYTHING)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    return arguments


def measure(wanted: tuple[str, ...], size: Size) -> tuple[dict[str, Result], dict[str, str]]:
    """Take the measurements, one stage after the other."""
    results: dict[str, Result] = {}
    with open_stage() as stage:
        facts = machine(stage.version)
        take(PAIR, wanted, stage, size, results)
    if set(wanted) & set(SECURE):
        with tls.open_tls() as secure:
            take(SECURE, wanted, secure, size, results)
    if set(wanted) & set(WIDE):
        with open_wide() as wide:
            take(WIDE, wanted, wide, size, results)
    if set(wanted) & set(TRIO):
        with isolation.open_trio() as trio:
            take(TRIO, wanted, trio, size, results)
    return {name: results[name] for name in report.ORDER if name in results}, facts


def take(
    measurements: dict[str, Callable[[Any, Size], Result]],
    wanted: tuple[str, ...],
    place: Any,
    size: Size,
    results: dict[str, Result],
) -> None:
    """Take those that are wanted, and print each as it comes."""
    for name, measurement in measurements.items():
        if name in wanted:
            began_s = time.perf_counter()
            results[name] = measurement(place, size)
            report.show(name, results[name], time.perf_counter() - began_s)


def main() -> None:
    """Measure, print, and keep the figures."""
    arguments = parse()
    wanted = tuple(arguments.only or EVERYTHING)
    size = Size(arguments.events, arguments.trips, arguments.runs)
    results, facts = measure(wanted, size)
    report.show_verdicts(results)
    folder: Path | None = arguments.out
    if folder is None and arguments.only is None:
        folder = ROOT / "docs"
    if folder is not None:
        report.keep(folder, results, facts)
        plots.keep(folder / "bench", results)
        report.fill(folder / "performance.rst", results, facts)


if __name__ == "__main__":
    main()
