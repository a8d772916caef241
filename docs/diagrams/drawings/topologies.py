"""The ways to lay out brokers: one for each host, one for all, a cluster, one for each site."""

from __future__ import annotations

from collections.abc import Callable

from ..canvas import Canvas

_WIDE, _GAP = 168.0, 20.0
"""A host, and what is between two."""


def _xs(count: int) -> list[float]:
    return [8 + number * (_WIDE + _GAP) for number in range(count)]


def _host(canvas: Canvas, x: float, y: float, h: float, name: str) -> None:
    canvas.box(x, y, _WIDE, h, "host", r=12)
    canvas.text(x + 14, y + 23, name, "b")


def _chart(canvas: Canvas, x: float, name: str) -> None:
    canvas.card(x + 34, 42, _WIDE - 68, 44, "chart", [name])


def own() -> Canvas:
    """A broker for each host."""
    canvas = Canvas(
        556,
        276,
        "A broker for each host",
        "Three hosts, each with a chart and a broker. The first chart sends each event to all "
        "three brokers; every chart is handed the events by the broker of its own host.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 260, name)
        _chart(canvas, x, "chart")
        canvas.broker(x + 24, 204, 120, 52, ["broker"])
    rail, start = 132.0, xs[0] + 60
    canvas.line([(start, 86), (start, 208)], "mesh", "thick")
    for x in xs[1:]:
        canvas.line([(start, rail), (x + 60, rail), (x + 60, 208)], "mesh", "thick")
    canvas.circle(start, rail, 4, "mesh")
    canvas.text(xs[0] + 14, 170, "sends", "q over")
    for x in xs[1:]:
        canvas.line([(x + 108, 206), (x + 108, 88)], "mesh")
        canvas.text(x + 116, 170, "hears", "q over")
    return canvas


def shared() -> Canvas:
    """One broker for all hosts."""
    canvas = Canvas(
        556,
        276,
        "One broker for all hosts",
        "Three hosts with a chart each, and a server with the only broker. Every chart sends to it "
        "and is handed its events by it.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 96, name)
        _chart(canvas, x, "chart")
    canvas.box(156, 172, 244, 96, "host", r=12)
    canvas.text(170, 195, "server", "b")
    canvas.broker(222, 200, 112, 52, ["broker"])
    rail = 140.0
    canvas.line([(xs[0] + 84, 86), (xs[0] + 84, rail), (252, rail), (252, 204)], "mesh", "thick")
    canvas.line([(278, 202), (278, 88)], "mesh")
    canvas.line([(304, 202), (304, rail), (xs[2] + 84, rail), (xs[2] + 84, 88)], "mesh")
    canvas.text(xs[0] + 94, 128, "sends", "q over")
    canvas.text(286, 120, "hears", "q over")
    canvas.text(xs[2] + 74, 120, "hears", "q over", at="end")
    return canvas


def cluster() -> Canvas:
    """A cluster, as a shared broker that survives the loss of a machine in part."""
    canvas = Canvas(
        556,
        308,
        "A cluster of three nodes",
        "Three hosts with a chart each, and a cluster of three RabbitMQ nodes. The first chart "
        "sends each event to one node; the cluster hands it on; each chart hears from its node.",
    )
    xs = _xs(3)
    for x, name in zip(xs, ("robot 1", "robot 2", "base"), strict=True):
        _host(canvas, x, 8, 96, name)
        _chart(canvas, x, "chart")
    canvas.box(8, 172, 540, 128, "host", r=12)
    canvas.text(112, 195, "one cluster", "b")
    for number, x in enumerate(xs):
        canvas.broker(x + 24, 210, 120, 52, [f"node {number + 1}"])
    canvas.line([(xs[0] + 144, 236), (xs[1] + 22, 236)], "broker")
    canvas.line(
        [(xs[0] + 84, 262), (xs[0] + 84, 282), (xs[2] + 84, 282), (xs[2] + 84, 264)], "broker"
    )
    canvas.line([(xs[0] + 84, 86), (xs[0] + 84, 214)], "mesh", "thick")
    canvas.text(xs[0] + 94, 148, "sends", "q over")
    for x in xs[1:]:
        canvas.line([(x + 84, 212), (x + 84, 88)], "mesh")
        canvas.text(x + 94, 148, "hears", "q over")
    return canvas


def sites() -> Canvas:
    """A broker for each site."""
    canvas = Canvas(
        732,
        308,
        "A broker for each site",
        "Two sites, each with two machines and a broker of its own. A chart sends each event to "
        "both brokers: once over the line between the sites, however many charts hear it there.",
    )
    xs = [4 + 184.0 * number for number in range(4)]
    for left, name in ((xs[0], "site north"), (xs[2], "site south")):
        canvas.box(left, 8, _WIDE + 184, 292, "thread", r=12)
        canvas.text(left + 14, 290, name, "b")
    for number, x in enumerate(xs):
        canvas.box(x + 10, 20, _WIDE - 20, 84, "host", r=12)
        canvas.text(x + 24, 41, f"robot {number + 1}", "b")
        canvas.card(x + 30, 52, _WIDE - 60, 40, "chart", ["chart"])
    brokers = (xs[0] + 118, xs[2] + 118)
    for x in brokers:
        canvas.broker(x, 206, 120, 52, ["broker"])
    rail = 146.0
    start = xs[0] + 84
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
            canvas.line([(out, 208), (out, 178), (x + 100, 178), (x + 100, 94)], "mesh")
    canvas.text(xs[1] + 108, 132, "hears", "q over")
    canvas.text(xs[3] + 108, 132, "hears", "q over")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "topology_own": own,
    "topology_shared": shared,
    "topology_cluster": cluster,
    "topology_sites": sites,
}
