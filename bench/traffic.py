"""Round trips and throughput, beside what users write by hand."""

from __future__ import annotations

import contextlib
from typing import Any

from .figure import ROUNDS_A_RUN, Figure, Result, Size, judged, middle, percentile_99
from .stage import Stage, roles

KINDS = {
    "raw": "raw pika",
    "floor": "floor",
    "chart": "charts",
    "aio": "aio-pika",
    "blocking": "pika BlockingConnection",
    "alone": "miros alone, no network",
}
"""The peers, as tables and plots name them."""

TRIPS = {
    "raw": ("raw.raw_echo", "raw.raw_ping"),
    "floor": ("floor.floor_echo", "floor.floor_ping"),
    "chart": ("charts.chart_echo", "charts.chart_ping"),
    "aio": ("others.aio_echo", "others.aio_ping"),
    "blocking": ("others.blocking_echo", "others.blocking_ping"),
}
"""The role that answers, and the role that asks."""

COMPARED = ("raw", "floor", "chart")
"""The peers that a target compares, and what no package of this kind can go below; the others make
fewer trips."""

SENDERS = {
    "raw": ("raw.raw_send", "raw.raw_receive", 1.0),
    "chart": ("charts.chart_send", "charts.chart_receive", 1.0),
    "aio": ("others.aio_send", "raw.raw_receive", 0.1),
    "blocking": ("others.blocking_send", "raw.raw_receive", 0.02),
}
"""Sender, receiver, and the part of the events that the slower ones have to send."""

BLOCK_TRIPS = 50
WARM_TRIPS = 5
"""How many trips at the begin of a block do not count."""


def round_trip(stage: Stage, size: Size) -> Result:
    """Chart to chart to chart through two brokers, one at a time, and raw pika's echo.

    All run all the time and take turns in short blocks. So other work of the machine, which may
    make it twice as slow for some seconds, affects them alike.
    """
    taken: dict[str, list[float]] = {kind: [] for kind in TRIPS}
    for _ in range(size.runs):
        with contextlib.ExitStack() as all_kinds:
            ask = {}
            for kind, (echo, ping) in TRIPS.items():
                parts = (echo, stage.at(1)), (ping, stage.at(0))
                ask[kind] = all_kinds.enter_context(roles(*parts))[1].ask
            for _number in range(max(1, size.trips // BLOCK_TRIPS)):
                for kind, times in taken.items():
                    trips = BLOCK_TRIPS if kind in COMPARED else BLOCK_TRIPS // 2
                    times += ask[kind](WARM_TRIPS + trips)["times"][WARM_TRIPS:]
    return _trips("round_trip", taken, at_most=1.15)


DENSE_S = 0.001
"""A shorter silence between two round trips."""


def dense(stage: Stage, size: Size) -> Result:
    """Round trips with less silence between them."""
    return beside_raw_trips("dense", stage, size, at_most=1.25, quiet_s=DENSE_S)


def beside_raw_trips(
    part: str, stage: Stage, size: Size, *, at_most: float, **arguments: Any
) -> Result:
    """Round trips of charts, of raw pika and of the floor, in turns.

    Args:
        part: the measurement.
        stage: its nodes.
        size: how much is measured.
        at_most: the target of the median; that of the 99th percentile is 1.3.
        **arguments: of the roles that ask.
    """
    taken: dict[str, list[float]] = {kind: [] for kind in COMPARED}
    for _ in range(size.runs):
        with contextlib.ExitStack() as both:
            ask = {}
            for kind in COMPARED:
                echo, ping = TRIPS[kind]
                parts = (echo, stage.at(1)), (ping, stage.at(0, **arguments))
                ask[kind] = both.enter_context(roles(*parts))[1].ask
            for _number in range(max(1, size.trips // BLOCK_TRIPS)):
                for kind, times in taken.items():
                    times += ask[kind](WARM_TRIPS + BLOCK_TRIPS)["times"][WARM_TRIPS:]
    return _trips(part, taken, at_most=at_most)


def _trips(part: str, taken: dict[str, list[float]], *, at_most: float) -> Result:
    """Figures of round trips in seconds, beside raw pika; those of charts beside the floor, too."""
    median = {kind: middle(times) * 1e3 for kind, times in taken.items()}
    p99 = {kind: percentile_99(times) * 1e3 for kind, times in taken.items()}
    both = (("median", median, at_most), ("99th percentile", p99, 1.3))
    figures = [
        _beside_raw(part, f"{KINDS[kind]}, {what}", values, kind, "ms", at_most=most)
        for kind in taken
        for what, values, most in both
    ]
    figures += [
        judged(part, f"charts beside the floor, {what}", values["chart"], "ms", to=values["floor"])
        for what, values, _ in both
    ]
    return Result(figures, {"median_ms": median, "p99_ms": p99})


def throughput(stage: Stage, size: Size) -> Result:
    """From one process to another through one broker, and miros without any; in turns, too."""
    rates: dict[str, list[float]] = {kind: [] for kind in (*SENDERS, "alone")}
    for _ in range(size.runs):
        with contextlib.ExitStack() as all_kinds:
            pairs = {}
            for kind, (sender, receiver, _part) in SENDERS.items():
                key = {} if kind in ("raw", "chart") else {"key": f"ping.{kind}"}
                parts = (receiver, stage.at(1, **key)), (sender, stage.at(0, **key))
                pairs[kind] = all_kinds.enter_context(roles(*parts))
            (alone,) = all_kinds.enter_context(roles(("alone.miros_alone", {})))
            for _number in range(ROUNDS_A_RUN):
                for kind, (receiving, sending) in pairs.items():
                    count = int(size.events * SENDERS[kind][2])
                    receiving.ask(count)
                    sending.tell(count)
                    ended: float = receiving.hear()["ended"]
                    rates[kind].append(count / (ended - sending.hear()["began"]))
                report = alone.ask(size.events)
                rates["alone"].append(size.events / (report["ended"] - report["began"]))
    rate = {kind: middle(taken) for kind, taken in rates.items()}
    figures = [
        _beside_raw("throughput", KINDS[kind], rate, kind, "events/s", at_least=2.5)
        for kind in rate
    ]
    return Result(figures, {"events_per_s": rate})


def _beside_raw(
    part: str, name: str, values: dict[str, float], kind: str, unit: str, **target: float
) -> Figure:
    """A peer's figure beside raw pika's; the target is that of charts."""
    return judged(
        part, name, values[kind], unit, to=values["raw"], **(target if kind == "chart" else {})
    )
