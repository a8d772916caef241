"""Round trips and throughput, beside what users write by hand."""

from __future__ import annotations

from .figure import Figure, Result, Size, judged, middle, percentile_99
from .stage import Stage, roles

KINDS = {
    "raw": "raw pika",
    "chart": "charts",
    "aio": "aio-pika",
    "blocking": "pika BlockingConnection",
    "alone": "miros alone, no network",
}
"""The peers, as tables and plots name them."""

TRIPS = {
    "raw": ("raw.raw_echo", "raw.raw_ping"),
    "chart": ("charts.chart_echo", "charts.chart_ping"),
    "aio": ("others.aio_echo", "others.aio_ping"),
    "blocking": ("others.blocking_echo", "others.blocking_ping"),
}
"""Who answers and who asks."""

COMPARED = ("raw", "chart")
"""Those whose ratio is a target; the others make fewer trips."""

SENDERS = {
    "raw": ("raw.raw_send", "raw.raw_receive", 1.0),
    "chart": ("charts.chart_send", "charts.chart_receive", 1.0),
    "aio": ("others.aio_send", "raw.raw_receive", 0.5),
    "blocking": ("others.blocking_send", "raw.raw_receive", 0.1),
}
"""Sender, receiver, and the part of the events that the slower ones have to send."""


def one_round_trip(stage: Stage, kind: str, count: int) -> list[float]:
    """Seconds of round trips, one after the other; the first tenth warms up."""
    echo, ping = TRIPS[kind]
    with roles((echo, stage.at(1, count=0)), (ping, stage.at(0, count=count))) as playing:
        echoing, pinging = playing
        times: list[float] = pinging.ask("go")["times"]
        echoing.ask("stop")
    return times[len(times) // 10 :]


def one_throughput(stage: Stage, kind: str, events: int) -> float:
    """Events a second, from the first sent to the last handled."""
    sender, receiver, part = SENDERS[kind]
    count = int(events * part)
    parts = (receiver, stage.at(1, count=count)), (sender, stage.at(0, count=count))
    with roles(*parts) as (receiving, sending):
        sending.tell("go")
        ended: float = receiving.hear()["ended"]
        began: float = sending.hear()["began"]
    return count / (ended - began)


def one_alone(count: int) -> float:
    """Events a second of miros without a network."""
    with roles(("alone.miros_alone", {"count": count})) as (role,):
        report = role.ask("go")
    return float(count / (report["ended"] - report["began"]))


def round_trip(stage: Stage, size: Size) -> Result:
    """Chart to chart to chart through two brokers, one at a time, and raw pika's echo."""
    runs: dict[str, list[list[float]]] = {kind: [] for kind in TRIPS}
    for _ in range(size.runs):
        for kind, taken in runs.items():
            trips = size.trips if kind in COMPARED else size.trips // 2
            taken.append(one_round_trip(stage, kind, trips))
    median = {kind: middle(map(middle, taken)) * 1e3 for kind, taken in runs.items()}
    p99 = {kind: middle(map(percentile_99, taken)) * 1e3 for kind, taken in runs.items()}
    figures = [
        figure
        for kind in TRIPS
        for figure in (
            _beside_raw("round_trip", f"{KINDS[kind]}, median", median, kind, "ms", at_most=1.5),
            _beside_raw(
                "round_trip", f"{KINDS[kind]}, 99th percentile", p99, kind, "ms", at_most=2
            ),
        )
    ]
    return Result(figures, {"median_ms": median, "p99_ms": p99})


def throughput(stage: Stage, size: Size) -> Result:
    """From one process to another through one broker, and miros without any."""
    runs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(size.runs):
        for kind in SENDERS:
            runs[kind].append(one_throughput(stage, kind, size.events))
        runs["alone"].append(one_alone(size.events))
    rate = {kind: middle(taken) for kind, taken in runs.items()}
    figures = [
        _beside_raw("throughput", KINDS[kind], rate, kind, "events/s", at_least=1.2)
        for kind in KINDS
    ]
    return Result(figures, {"events_per_s": rate})


def _beside_raw(
    part: str, name: str, values: dict[str, float], kind: str, unit: str, **target: float
) -> Figure:
    """A peer's figure beside raw pika's; the target is that of charts."""
    return judged(
        part, name, values[kind], unit, to=values["raw"], **(target if kind == "chart" else {})
    )
