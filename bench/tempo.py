"""What the PID does for a publisher: over time, and beside constant tempos."""

from __future__ import annotations

from statistics import fmean
from typing import Any, NamedTuple

from miros_rabbitmq import Limits

from .figure import Figure, Result, Size, judged, percentile_99
from .stage import Part, Stage, roles


class Load(NamedTuple):
    """What a publisher is given to send."""

    name: str
    events: int
    rate: float
    """Events a second; 0: all at once."""


LOADS = (
    Load("trickle (100/s)", 300, 100.0),
    Load("stream (3,000/s)", 6_000, 3_000.0),
    Load("burst (5,000 at once)", 5_000, 0.0),
)

TEMPOS = {
    "PID": None,
    "always fast": Limits().tempo_fast_s,
    "always slow": Limits().tempo_slow_s,
}

KINDS = {"events": False, "snoop lines": True}
"""Publishers by what they are for; those of the snoops are lossy."""

PHASES = (
    # Events, events a second, seconds of silence after.
    (0, 0.0, 0.5),
    (5_000, 0.0, 0.7),
    (1_000, 500.0, 0.3),
    (10_000, 5_000.0, 1.0),
)


def pid(stage: Stage, _: Size) -> Result:
    """One run over time for the plot, and all loads with all tempos."""
    series = _series(stage)
    figures = []
    for kind, lossy in KINDS.items():
        for tempo, tempo_s in TEMPOS.items():
            figures += _loads(stage, kind, lossy, tempo, tempo_s)
    return Result(figures, {"series": series})


def _parts(stage: Stage, exchange: str, publisher: str, **more: Any) -> tuple[Part, Part]:
    place = {"url": stage.urls[1], "exchange": exchange}
    return ("tempo.receive_timed", place), (f"tempo.{publisher}", {**place, **more})


def _series(stage: Stage) -> dict[str, Any]:
    """Depth, tempo and batches, each with its seconds since the begin."""
    parts = _parts(stage, "bench.sampled", "publish_sampled", phases=PHASES)
    with roles(*parts) as (receiving, publishing):
        report = publishing.ask("go")
        arrived = receiving.ask("report")
        receiving.ask("end")
    began_s = report["marks"][0]
    return {
        "depth": [(at - began_s, waiting) for at, waiting, _ in report["samples"]],
        "tempo": [(at - began_s, tempo_s) for at, _, tempo_s in report["samples"]],
        "batches": [(at - began_s, events) for at, events in arrived["batches"]],
        "marks": [at - began_s for at in report["marks"]],
        "sampled_s": report["sampled_s"],
    }


def _loads(stage: Stage, kind: str, lossy: bool, tempo: str, tempo_s: float | None) -> list[Figure]:
    """Every load with one tempo, in a new pair of processes."""
    figures = []
    exchange = f"bench.{'lossy' if lossy else 'lasting'}"
    with roles(*_parts(stage, exchange, "publish_timed")) as (receiving, publishing):
        for load in LOADS:
            order = {
                "lossy": lossy,
                "tempo": tempo_s,
                "events": load.events,
                "rate": load.rate,
            }
            sent = publishing.ask(order)
            arrived = receiving.ask("report")
            latencies = arrived["latencies"]
            name = f"{kind}, {load.name}, {tempo}"
            messages = len(arrived["batches"]) / max(1, len(latencies))
            figures += [
                judged("pid", f"{name}: messages", messages, "for an event"),
                judged("pid", f"{name}: latency, mean", fmean(latencies) * 1e3, "ms"),
                judged("pid", f"{name}: latency, p99", percentile_99(latencies) * 1e3, "ms"),
                judged("pid", f"{name}: processor time", sent["cpu_us"], "µs for an event"),
            ]
            if lossy:
                figures.append(judged("pid", f"{name}: dropped", sent["dropped"], "lines"))
        publishing.ask("end")
        receiving.ask("end")
    return figures
