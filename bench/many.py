"""Many charts in one process, many processes at one broker, and events by many routing keys."""

from __future__ import annotations

from typing import Any

from .figure import Figure, Result, Size, judged, middle, percentile_99
from .stage import Stage, roles

STEPS = (1, 10, 50, 100)
"""How many charts one process has."""

PROCESSES = 30
SILENCE_S = 5.0

KEYS = (1, 2, 10)
KEY_EVENTS, KEY_RUNS = 4_000, 2


def _alone(stage: Stage) -> dict[str, Any]:
    """The arguments of charts that know of one broker."""
    return {**stage.charts[0], "addresses": [stage.charts[0]["addresses"][0]]}


def many(stage: Stage, _: Size) -> Result:
    """What charts cost that share a process and a broker.

    The last columns are of the last start, of events from the first chart to the last right after
    it, and of one more: the processor time of all for it.
    """
    rows = [
        ["charts", "idle, %", "threads", "files", "MiB", "last start, ms", "p99, ms", "new, ms"]
    ]
    figures: list[Figure] = []
    arguments = {"chart": _alone(stage), "silence_s": SILENCE_S}
    with roles(("many.many", arguments)) as (role,):
        for step in STEPS:
            one = role.ask(step)
            p99_s = percentile_99(one["taken"]) if one["taken"] else 0.0
            cells = [one["core"] * 1e2, one["threads"], one["descriptors"], one["memory_mib"]]
            cells += [one["start_s"] * 1e3, p99_s * 1e3, one["newcomer_s"] * 1e3]
            rows.append([str(step), *(f"{cell:.3g}" for cell in cells)])
            if step == 50:
                what = f"{step} charts in one process"
                most = 3 * step + 6
                figures += [
                    judged("many", f"{what}, idle", cells[0], "% of a core", at_most=0.7),
                    judged("many", f"{what}, threads", one["threads"], "", at_most=most),
                    judged("many", f"{what}, start of the last", cells[4], "ms", at_most=40),
                ]
            elif step == 100:
                what = f"{step} charts in one process, p99 right after the last start"
                figures.append(judged("many", what, cells[5], "ms", at_most=20))
    with roles(("raw.raw_queues", stage.at(0))) as (role,):
        first_s, *_, third_s = role.ask(STEPS[-1])["times"]
    what = f"raw pika, a persistent message to {STEPS[-1]} new queues"
    figures += [
        judged("many", f"{what}, the first", first_s * 1e3, "ms"),
        judged("many", f"{what}, the third", third_s * 1e3, "ms"),
    ]
    return Result(figures, tables={"charts in one process, at one broker": rows})


def fleet(stage: Stage, _: Size) -> Result:
    """What the last of some processes at one broker finds."""
    arguments = {"chart": _alone(stage), "processes": PROCESSES, "silence_s": SILENCE_S}
    with roles(("many.fleet", arguments)) as (role,):
        report = role.ask("go")
    what, taken = f"{PROCESSES} processes at one broker", report["taken"]
    return Result(
        [
            judged("fleet", f"{what}, start of the last", report["start_s"] * 1e3, "ms"),
            judged("fleet", f"{what}, median right after it", middle(taken) * 1e3, "ms"),
            judged("fleet", f"{what}, p99 of these", percentile_99(taken) * 1e3, "ms"),
            judged("fleet", f"{what}, idle, each", report["core"] / PROCESSES * 1e2, "% of a core"),
        ]
    )


def keys(stage: Stage, _: Size) -> Result:
    """Events by several routing keys in turn: each message has one key, so it has one event."""
    rates: dict[int, list[float]] = {count: [] for count in KEYS}
    costs: dict[int, list[float]] = {count: [] for count in KEYS}
    messages: dict[int, list[float]] = {count: [] for count in KEYS}
    receiver = {**stage.at(1), "chart": {**stage.charts[1], "rx_routing_key": "bench.*"}}
    sender = {**stage.at(0), "chart": {**stage.charts[0], "rx_routing_key": "nothing"}}
    with roles(("charts.chart_receive", receiver), ("many.by_keys", sender)) as (hearing, sending):
        for run in range(1 + KEY_RUNS):
            for count in KEYS:
                hearing.ask(KEY_EVENTS)
                report = sending.ask([KEY_EVENTS, count])
                ended = hearing.hear()["ended"]
                if run:  # the first warms up
                    rates[count].append(KEY_EVENTS / (ended - report["began"]))
                    costs[count].append(report["cpu_us"])
                    messages[count].append(KEY_EVENTS / report["messages"])
    figures: list[Figure] = []
    one, cost = middle(rates[1]), middle(costs[1])
    for count in KEYS:
        what = f"{count} routing key{'s in turn' if count > 1 else ''}"
        figures += [
            judged("keys", what, middle(rates[count]), "events/s", to=one),
            judged("keys", f"{what}, events in a message", middle(messages[count]), ""),
            judged("keys", f"{what}, sender's processor", middle(costs[count]), "µs", to=cost),
        ]
    return Result(figures)
