"""The subpackages, and what they import of each other."""

from __future__ import annotations

from collections.abc import Callable

from .. import imports
from ..canvas import Canvas

PLACES: dict[str, tuple[float, float, float, str, str, str]] = {
    "roof": (148, 8, 580, "card", "miros_rabbitmq", "the public names; fixtures for pytest"),
    "chart": (148, 104, 330, "chart", "chart", "the two classes, the FIFO, starts and stops"),
    "nets": (148, 200, 330, "mesh", "nets", "MirosNets, the node, the three networks, snoops"),
    "discovery": (428, 296, 300, "broker", "discovery", "which brokers there are"),
    "amqp": (108, 296, 300, "broker", "amqp", "reactor, links; pika stops here"),
    "wire": (8, 392, 240, "card", "wire", "pure: records, keys, pickles"),
    "delivery": (268, 392, 240, "card", "delivery", "pure: outbox, window, tempo"),
    "broker": (528, 104, 200, "broker", "broker", "LocalBroker"),
}
"""Each subpackage: left, top, width, kind, name, what it is for."""

HIGH = 64.0


def house() -> Canvas:
    """The house: imports point down only."""
    edges = imports.imports_between()
    near = imports.direct({a: b - {"root"} for a, b in edges.items()})
    told = [f"{a} imports {', '.join(sorted(b))}" for a, b in sorted(edges.items()) if b]
    canvas = Canvas(
        736,
        556,
        "The subpackages and their imports",
        f"Imports point down only: {'; '.join(told)}.",
    )
    for floor, targets in near.items():
        for target in sorted(targets):
            x, w = PLACES[floor][0], PLACES[floor][2]
            other_x, below, other_w = PLACES[target][0], PLACES[target][1], PLACES[target][2]
            # Straight down, where the two are above each other.
            middle = (max(x, other_x) + min(x + w, other_x + other_w)) / 2
            canvas.line([(middle, PLACES[floor][1] + HIGH), (middle, below)])
    for floor, (x, y, w, kind, name, purpose) in PLACES.items():
        more = sorted(edges[floor] - near[floor] - {"root"})
        lines = [name, purpose]
        if more:
            lines.append(
                f"also imports {', '.join(more)}" if len(more) < 5 else "also imports the rest"
            )
        canvas.card(x, y, w, HIGH, kind, lines)
    canvas.box(8, 488, 720, 60, "thread", style="solid")
    canvas.text(368, 512, "the root: the ground that all of them stand on", "b", at="middle")
    canvas.text(
        368,
        531,
        "exceptions, limits, urls, resolve, tls, worker, logs, process, …",
        "q",
        at="middle",
    )
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {"house": house}
