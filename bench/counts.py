"""What one round trip costs at each side, in counts: of raw pika, of the floor, and of charts.

Each pair of roles runs twice, once with more trips: the difference is that of the further trips,
without starts and ends.
"""

from __future__ import annotations

from .figure import Figure, Result, Size, judged, number
from .stage import Stage, roles
from .traffic import COMPARED, KINDS, TRIPS

FEW, MANY = 100, 500
QUIET_S = 0.003

COLUMNS = {
    "calls": "Python functions called",
    "instructions": "instructions of Python",
    "cpu_us": "processor time, µs",
    "waits": "waits of a thread",
}

SIDES = ("answers", "asks")


def counts(stage: Stage, _: Size) -> Result:
    """Calls and instructions of Python, processor time, and how often a thread waits."""
    figures: list[Figure] = []
    rows = []
    for kind in COMPARED:
        traced, plain = _a_trip(stage, kind, traced=True), _a_trip(stage, kind, traced=False)
        for side, with_trace, without in zip(SIDES, traced, plain, strict=True):
            of = {key: with_trace[key] for key in ("calls", "instructions")}
            of |= {key: without[key] for key in ("cpu_us", "waits")}
            name = f"{KINDS[kind]}, who {side}"
            rows.append([name, *(number(of[key]) for key in COLUMNS)])
            figures += [
                judged("counts", f"{name}: {what}", of[key], "") for key, what in COLUMNS.items()
            ]
    return Result(figures, tables={"counts": [["a round trip", *COLUMNS.values()], *rows]})


def _a_trip(stage: Stage, kind: str, *, traced: bool) -> list[dict[str, float]]:
    """What each side counts, for each of the further trips."""
    few, many = (_run(stage, kind, trips, traced=traced) for trips in (FEW, MANY))
    return [
        {key: (more[key] - less[key]) / (MANY - FEW) for key in COLUMNS}
        for less, more in zip(few, many, strict=True)
    ]


def _run(stage: Stage, kind: str, trips: int, *, traced: bool) -> list[dict[str, float]]:
    echo, ping = TRIPS[kind]
    answering = ("counted.counted", {"role": echo, "traced": traced, **stage.at(1)})
    asking = ("counted.counted", {"role": ping, "traced": traced, **stage.at(0, quiet_s=QUIET_S)})
    with roles(answering, asking) as both:
        both[1].ask(trips)
        return [role.end() for role in both]
