"""The ways to lay out brokers: one for each host, one for all, a cluster, one for each site.

Each is narrow enough for a phone.
"""

from __future__ import annotations

from collections.abc import Callable

from ..canvas import Canvas

_WIDE, _GAP = 134.0, 8.0
"""A host, and what is between two."""


def _xs(count: int) -> list[float]:
    return [4 + number * (_WIDE + _GAP) for number in range(count)]


def _host(canvas: Canvas, x: float, y: float, h: float, name: str) -> None:
    canvas.box(x, y, _WIDE, h, "host", r=12)
    canvas.text(x + 12, y + 23, name, "b")


def _chart(canvas: Canvas, x: float, name: str) -> None:
    canvas.card(x + 27, 42, _WIDE - 54, 44, "chart", [name])


def own() -> Canvas:
    """A broker for each host."""
    canvas = Canvas(
        430,
        276,
        "A broker for each host",
        "Three hosts, each with a chart and a broker. The first chart sends each event to all "
        "three brokers; every chart is handed the events by the broker of its own host.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 260, name)
        _chart(canvas, x, "chart")
        canvas.broker(x + 7, 204, 120, 52, ["broker"])
    rail, start = 132.0, xs[0] + 40
    canvas.line([(start, 86), (start, 208)], "mesh", "thick")
    for x in xs[1:]:
        canvas.line([(start, rail), (x + 40, rail), (x + 40, 208)], "mesh", "thick")
    canvas.circle(start, rail, 4, "mesh")
    canvas.text(start + 8, 170, "sends", "q over")
    for x in xs[1:]:
        canvas.line([(x + 94, 206), (x + 94, 88)], "mesh")
        canvas.text(x + 86, 170, "hears", "q over", at="end")
    return canvas


def shared() -> Canvas:
    """One broker for all hosts."""
    canvas = Canvas(
        430,
        276,
        "One broker for all hosts",
        "Three hosts with a chart each, and a server with the only broker. Every chart sends to it "
        "and is handed its events by it.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 96, name)
        _chart(canvas, x, "chart")
    left, middle, right = (x + _WIDE / 2 for x in xs)
    canvas.box(middle - 100, 172, 200, 96, "host", r=12)
    canvas.text(middle - 86, 195, "server", "b")
    canvas.broker(middle - 60, 200, 120, 52, ["broker"])
    rail, into, out = 140.0, middle - 26, middle + 26
    canvas.line([(left, 86), (left, rail), (into, rail), (into, 204)], "mesh", "thick")
    canvas.line([(middle, 202), (middle, 88)], "mesh")
    canvas.line([(out, 202), (out, rail), (right, rail), (right, 88)], "mesh")
    canvas.text(left + 10, 128, "sends", "q over")
    canvas.text(middle + 8, 120, "hears", "q over")
    canvas.text(right - 10, 120, "hears", "q over", at="end")
    return canvas


def cluster() -> Canvas:
    """A cluster, as a shared broker that survives the loss of a machine in part."""
    canvas = Canvas(
        430,
        308,
        "A cluster of three nodes",
        "Three hosts with a chart each, and a cluster of three RabbitMQ nodes. The first chart "
        "sends each event to one node; the cluster hands it on; each chart hears from its node.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 96, name)
        _chart(canvas, x, "chart")
    canvas.box(4, 172, 422, 128, "host", r=12)
    left, middle, right = (x + _WIDE / 2 for x in xs)
    canvas.text(left + 24, 195, "one cluster", "b")
    for number, x in enumerate(xs):
        canvas.broker(x + 7, 210, 120, 52, [f"node {number + 1}"])
    canvas.line([(xs[0] + 127, 236), (xs[1] + 5, 236)], "broker")
    canvas.line([(left, 262), (left, 282), (right, 282), (right, 264)], "broker")
    canvas.line([(left, 86), (left, 214)], "mesh", "thick")
    canvas.text(left + 10, 148, "sends", "q over")
    for x in (middle, right):
        canvas.line([(x, 212), (x, 88)], "mesh")
        canvas.text(x + 10, 148, "hears", "q over")
    return canvas


def sites() -> Canvas:
    """A broker for each site."""
    canvas = Canvas(
        430,
        308,
        "A broker for each site",
        "Two sites, each with two machines and a broker of its own. A chart sends each event to "
        "both brokers: once over the line between the sites, however many charts hear it there.",
    )
    xs = [1 + 107.0 * number for number in range(4)]
    for left, name in ((xs[0], "site north"), (xs[2], "site south")):
        canvas.box(left + 1, 8, 211, 292, "thread", r=12)
        canvas.text(left + 14, 290, name, "b")
    for number, x in enumerate(xs):
        canvas.box(x + 6, 16, 95, 88, "host", r=12)
        canvas.text(x + 16, 39, f"robot {number + 1}", "b")
        canvas.card(x + 15, 50, 77, 42, "chart", ["chart"])
    brokers = (xs[0] + 46, xs[2] + 46)
    for x in brokers:
        canvas.broker(x, 206, 120, 52, ["broker"])
    rail = 146.0
    start = xs[0] + 40
    canvas.line(
        [(start, 92), (start, rail), (brokers[0] + 30, rail), (brokers[0] + 30, 210)],
        "mesh",
        "thick",
    )
    canvas.line(
        [(brokers[0] + 30, rail), (brokers[1] + 30, rail), (brokers[1] + 30, 210)], "mesh", "thick"
    )
    canvas.text(start + 10, 132, "sends", "q over")
    for broker, machines in zip(brokers, (xs[1:2], xs[2:]), strict=True):
        for number, x in enumerate(machines):
            out = broker + 90 - 30 * (len(machines) - 1 - number)
            canvas.line([(out, 208), (out, 178), (x + 60, 178), (x + 60, 94)], "mesh")
    canvas.text(xs[1] + 67, 132, "hears", "q over")
    canvas.text(xs[3] + 67, 132, "hears", "q over")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "topology_own": own,
    "topology_shared": shared,
    "topology_cluster": cluster,
    "topology_sites": sites,
}
