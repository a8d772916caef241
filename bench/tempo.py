"""What the PID does for a publisher: over time, and beside constant tempos."""

from __future__ import annotations

from statistics import fmean
from typing import Any, NamedTuple

from .figure import Figure, Result, Size, judged, middle, number, percentile_99
from .stage import Part, Stage, roles


class Load(NamedTuple):
    """The loads that a publisher is given."""

    name: str
    events: int
    rate: float
    """Events a second; 0: all at once."""


LOADS = (
    Load("trickle (100/s)", 200, 100.0),
    Load("stream (3,000/s)", 4_500, 3_000.0),
    Load("dense (12,000/s)", 12_000, 12_000.0),
    Load("burst (5,000 at once)", 5_000, 0.0),
)

TEMPOS = ("PID", "always fast", "always slow")

KINDS = {"events": False, "snoop lines": True}
"""The publishers of the mesh and of the snoops; the latter are lossy and patient."""

COLUMNS = {
    "messages": "for an event",
    "latency, mean": "ms",
    "latency, 99th percentile": "ms",
    "processor time": "µs for an event",
    "lost": "events",
}
Values = tuple[float, ...]
"""One for each of the columns."""

HEADS = ["load", "tempo", "messages/event", "mean ms", "p99 ms", "µs/event", "lost"]

PHASES = (
    # Events, events a second, seconds of silence after.
    (0, 0.0, 0.5),
    (5_000, 0.0, 0.7),
    (1_000, 500.0, 0.3),
    (10_000, 5_000.0, 1.0),
)


def pid(stage: Stage, size: Size) -> Result:
    """Runs over time for the plots, and all loads with all tempos."""
    series = {kind: _series(stage, kind) for kind in KINDS}
    figures: list[Figure] = []
    tables = {}
    for kind in KINDS:
        runs: dict[tuple[str, str], list[Values]] = {}
        for _ in range(size.runs):
            for tempo in TEMPOS:
                for name, taken in _loads(stage, kind, tempo):
                    runs.setdefault((name, tempo), []).append(taken)
        rows = []
        for load in LOADS:
            for tempo in TEMPOS:
                values = tuple(map(middle, zip(*runs[load.name, tempo], strict=True)))
                rows.append([load.name, tempo, *map(number, values)])
                figures += [
                    judged("pid", f"{kind}, {load.name}, {tempo}: {what}", value, unit)
                    for (what, unit), value in zip(COLUMNS.items(), values, strict=True)
                ]
        tables[f"pid {kind}"] = [HEADS, *rows]
    return Result(figures, {"series": series}, tables)


def _parts(stage: Stage, exchange: str, publisher: str, **more: Any) -> tuple[Part, Part]:
    place = {"url": stage.urls[1], "exchange": exchange}
    return ("tempo.receive_timed", place), (f"tempo.{publisher}", {**place, **more})


def _series(stage: Stage, kind: str) -> dict[str, Any]:
    """Depth, tempo and batches, each with its seconds since the begin."""
    exchange = f"bench.sampled.{KINDS[kind]}"
    parts = _parts(stage, exchange, "publish_sampled", phases=PHASES, snoop=KINDS[kind])
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


def _loads(stage: Stage, kind: str, tempo: str) -> list[tuple[str, Values]]:
    """Every load with one tempo, in a new pair of processes; its values in their order."""
    taken: list[tuple[str, Values]] = []
    with roles(*_parts(stage, f"bench.{KINDS[kind]}", "publish_timed")) as (receiving, publishing):
        for load in LOADS:
            order = {
                "snoop": KINDS[kind],
                "tempo": tempo,
                "events": load.events,
                "rate": load.rate,
            }
            sent = publishing.ask(order)
            arrived = receiving.ask("report")
            latencies = arrived["latencies"]
            values = (
                len(arrived["batches"]) / max(1, len(latencies)),
                fmean(latencies) * 1e3,
                percentile_99(latencies) * 1e3,
                sent["cpu_us"],
                load.events - len(latencies),
            )
            taken.append((load.name, values))
        publishing.ask("end")
        receiving.ask("end")
    return taken
