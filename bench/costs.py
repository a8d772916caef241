"""What a node costs its process: transmit, silence, the start, peers, being watched."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet

from .figure import ROUNDS_A_RUN, Figure, Result, Size, judged, middle, slope
from .stage import Stage, Wide, roles

BROKERS = (1, 8, 20, 50)
JUDGED = 8
"""The number of brokers that has a target."""

LOOP_EVENTS = 5_000
"""Well below the backlog, so that no post waits for room."""

PAUSES, PAUSE_S = 50, 0.01

SILENCE_S = 20.0
STARTS = 5
PEERS = BROKERS
BROADCASTS = 20

WATCHED_RATE, WATCHED_S = 1_000.0, 4.0
WATCHES = {"off": "not watched", "live": "miros's live trace", "snoop": "snoop trace"}


def transmit(wide: Wide, size: Size) -> Result:
    """Processor time of `transmit` in the calling thread, to several brokers and to 1."""
    runs: dict[int, list[dict[str, float]]] = {brokers: [] for brokers in BROKERS}
    # With keys of their own, so that neither hears the other.
    parts = [
        (
            "costs.transmit_cost",
            {
                "chart": {
                    **wide.chart,
                    "mesh_encryption_key": Fernet.generate_key().decode(),
                    "tx_routing_key": f"to.{brokers}",
                },
                "urls": wide.urls[1:brokers],
                "pauses": PAUSES,
                "pause_s": PAUSE_S,
            },
        )
        for brokers in runs
    ]
    for _ in range(size.runs):
        with roles(*parts) as playing:
            for role in playing:
                role.ask(LOOP_EVENTS)  # warms up
            for _number in range(ROUNDS_A_RUN):
                for taken, role in zip(runs.values(), playing, strict=True):
                    taken.append(role.ask(LOOP_EVENTS))
    figures = []
    for name, key in (("in a loop", "loop_us"), ("one at a time", "paced_us")):
        cost = {brokers: middle(run[key] for run in runs[brokers]) for brokers in BROKERS}
        one = cost[1]
        figures.append(judged("transmit", f"to 1 broker, {name}", one, "µs"))
        for brokers in BROKERS[1:]:
            most = 1.5 if key == "loop_us" else 2
            at_most = most if brokers == JUDGED else None
            what = f"to {brokers} brokers, {name}"
            figures.append(judged("transmit", what, cost[brokers], "µs", to=one, at_most=at_most))
    return Result(figures)


def idle(stage: Stage, _: Size) -> Result:
    """The part of a core that a silent process uses."""
    with roles(("costs.idle", stage.at(0, silence_s=SILENCE_S))) as (role,):
        report = role.ask("go")
    core = judged("idle", "three networks, two brokers", report["core"] * 100, "% of a core")
    core = core._replace(
        target="below 0.08 % of a core", verdict="met" if core.value < 0.08 else "missed"
    )
    return Result([core, judged("idle", "threads of the process", report["threads"], "")])


def start(stage: Stage, _: Size) -> Result:
    """The time from the construction of a chart to its first event, each in a new process."""
    reports = []
    with roles(("costs.tick", stage.at(1))) as (ticking,):
        for _number in range(STARTS):
            with roles(("costs.start", stage.at(0))) as (starting,):
                reports.append(starting.ask("go"))
        ticking.ask("stop")
    started = [report["started_s"] for report in reports]
    first = [report["first_event_s"] for report in reports]
    return Result(
        [
            judged("start", "constructed until start_at has returned", middle(started), "s"),
            judged("start", "constructed until the first event", middle(first), "s", at_most=0.3),
            judged("start", f"the slowest of {STARTS}", max(first), "s"),
        ]
    )


def peers(wide: Wide, _: Size) -> Result:
    """Memory and threads for each peer, and the time of one event to all of them."""
    arguments = {
        "chart": wide.chart,
        "urls": wide.urls[1:],
        "steps": PEERS,
        "broadcasts": BROADCASTS,
    }
    with roles(("costs.peers_cost", arguments)) as (role,):
        report: list[dict[str, float]] = role.ask("go")
    memory = slope([(one["peers"], one["memory_mib"]) for one in report])
    threads = slope([(one["peers"], one["threads"]) for one in report])
    figures = [
        judged("peers", "memory for each peer", memory, "MiB", at_most=1),
        judged("peers", "threads for each peer", threads, ""),
    ]
    for one in report:
        count = f"{one['peers']:.0f} peer{'s' * (one['peers'] > 1)}"
        figures += [
            judged("peers", f"memory with {count}", one["memory_mib"], "MiB"),
            judged("peers", f"threads with {count}", one["threads"], ""),
            judged(
                "peers",
                f"one event confirmed by {count}, median",
                one["broadcast_s"] * 1e3,
                "ms",
                at_most=8 if one["peers"] == PEERS[-1] else None,
            ),
        ]
    return Result(figures, {"steps": report})


def trace(stage: Stage, size: Size) -> Result:
    """A chart with a transition for each event, watched in different ways.

    The target speaks of a chart at 1,000 events a second: what counts is the time by the clock that
    its thread is busy with an event. It has in it what the thread does for the watcher and, as
    Python runs one thread at a time, what it waits for other threads: those that write lines, and
    those that send them. All three charts are on the network, with their connections open; the
    two that are watched write their lines to streams of the same kind.

    Also measured: the processor time of the chart's thread and of the whole process for each event,
    and how many events the chart handles when it gets them as fast as it takes them. A snoop that
    is flooded like this drops lines, because it never waits; miros's own lines wait in memory.
    """
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in WATCHES}
    floods: dict[str, list[float]] = {kind: [] for kind in WATCHES}
    for _ in range(size.runs):
        for kind in WATCHES:
            runs[kind].append(_watched(stage, kind, WATCHED_RATE, WATCHED_S))
            floods[kind].append(_watched(stage, kind, 0.0, WATCHED_S / 2)["rate"])
    figures: list[Figure] = []
    for key, what, unit, most in (
        ("busy_us", "busy with an event at 1,000/s", "µs", 1.2),
        ("chart_cpu_us", "processor time of the chart's thread", "µs", None),
        ("process_cpu_us", "processor time of the process", "µs", None),
    ):
        value = {kind: middle(run[key] for run in taken) for kind, taken in runs.items()}
        figures += [
            judged(
                "trace",
                f"{what}, {words}",
                value[kind],
                unit,
                to=value["live"],
                at_most=most if kind == "snoop" else None,
            )
            for kind, words in WATCHES.items()
        ]
    most_rate = {kind: middle(taken) for kind, taken in floods.items()}
    figures += [
        judged("trace", f"at the most, {words}", most_rate[kind], "events/s", to=most_rate["live"])
        for kind, words in WATCHES.items()
    ]
    return Result(figures)


def _watched(stage: Stage, kind: str, rate: float, seconds: float) -> dict[str, Any]:
    arguments = stage.at(0, kind=kind, rate=rate, seconds=seconds)
    with roles(("watched.watched", arguments)) as (role,):
        report: dict[str, Any] = role.ask("go")
    return report
