"""Hosts, their charts and brokers, and the networks over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..canvas import Canvas

TRACE = (
    "[+t] [2026-11-27 05:23:27.933282] [people] e->PERSON() red_man->asked",
    "[+t] [2026-11-27 05:23:28.716954] [control] e->BUTTON() yielding->stopping",
    "[+t] [2026-11-27 05:23:28.738110] [cars] e->STOP() green->amber",
)
"""Lines of a run of ``make demo``."""


def _host(canvas: Canvas, x: float, y: float, w: float, h: float, name: str, address: str) -> None:
    canvas.box(x, y, w, h, "host", r=12)
    canvas.text(x + 14, y + 23, name, "b")
    canvas.text(x + w - 14, y + 23, address, "k", at="end")


def overview() -> Canvas:
    """Three hosts: what the whole thing is."""
    canvas = Canvas(
        736,
        452,
        "Charts on three hosts",
        "Three hosts, each with a RabbitMQ broker of its own. The chart control on the first host "
        "transmits an event to all three brokers; each broker hands it to the charts of its host. "
        "A chart on the third host shows the state transitions of all charts in its terminal.",
    )
    wide, gap = 224.0, 24.0
    xs = [8 + number * (wide + gap) for number in range(3)]
    names = (("control box", "192.168.1.71"), ("pole", "192.168.1.72"), ("desk", "192.168.1.73"))
    for x, (name, address) in zip(xs, names, strict=True):
        _host(canvas, x, 8, wide, 284, name, address)
    middle = [x + wide / 2 for x in xs]
    # The mesh: from one chart to all brokers.
    rail = 152.0
    start = xs[0] + 58
    canvas.line([(start, 92), (start, 226)], "mesh", "thick")
    for x in middle[1:]:
        canvas.line([(start, rail), (x - 30, rail), (x - 30, 226)], "mesh", "thick")
    canvas.circle(start, rail, 4, "mesh")
    canvas.text(start + 12, rail - 9, "transmit(STOP)", "s b c-mesh over")
    # From each broker to the charts of its host.
    for x in (xs[0] + 166, middle[1] + 30, middle[2] + 30):
        canvas.line([(x, 228), (x, 94)], "mesh")
    for x, text in ((xs[0] + 174, "queue"), (middle[1] + 38, "queue"), (middle[2] + 38, "queue")):
        canvas.text(x, 200, text, "q over")
    canvas.card(xs[0] + 14, 44, 88, 48, "chart", ["control", "chart"])
    canvas.card(xs[0] + 122, 44, 88, 48, "chart", ["cars", "chart"])
    canvas.card(middle[1] - 56, 44, 112, 48, "chart", ["people", "chart"])
    canvas.card(middle[2] - 56, 44, 112, 48, "chart", ["watcher", "chart"])
    for x in middle:
        canvas.broker(x - 88, 222, 176, 56, ["RabbitMQ", "broker of this host"])
    # The terminal.
    top = 330.0
    out = xs[2] + wide - 12
    canvas.line([(middle[2] + 56, 68), (out, 68), (out, top)], "snoop", "dash")
    canvas.text(out - 8, top - 14, "the trace of all charts", "s b c-snoop halo", at="end")
    canvas.box(8, top, 720, 108, "snoop", r=10)
    for number in range(3):
        canvas.circle(26 + 16 * number, top + 17, 4.5, "line")
    canvas.text(368, top + 21, "one terminal, at the desk", "q", at="middle")
    canvas.line([(8, top + 33), (728, top + 33)], "snoop", "thin", arrow=False)
    canvas.lines_of_text(24, top + 54, TRACE, "m", pitch=20)
    return canvas


def overview_narrow() -> Canvas:
    """The same for a phone: the hosts below each other."""
    canvas = Canvas(
        356,
        584,
        "Charts on three hosts, for a narrow page",
        "Three hosts, each with a RabbitMQ broker of its own. The chart control on the first host "
        "transmits an event to all three brokers; each broker hands it to the charts of its host. "
        "A chart on the third host shows the state transitions of all charts in its terminal.",
    )
    names = (("control box", "192.168.1.71"), ("pole", "192.168.1.72"), ("desk", "192.168.1.73"))
    charts = (("control", "cars"), ("people",), ("watcher",))
    high, gap, rail = 128.0, 14.0, 10.0
    tops = [6 + number * (high + gap) for number in range(3)]
    for y, (name, address) in zip(tops, names, strict=True):
        _host(canvas, 22, y, 330, high, name, address)
    # The mesh: from one chart to all brokers.
    below, broker = 110.0, 281.0
    for y in tops:
        start = [(74.0, tops[0] + 84), (74.0, tops[0] + below)]
        if y != tops[0]:
            start += [(rail, tops[0] + below), (rail, y + below)]
        canvas.line([*start, (broker, y + below), (broker, y + 92)], "mesh", "thick")
    canvas.circle(74, tops[0] + below, 4, "mesh")
    canvas.text(86, tops[0] + below - 8, "transmit(STOP)", "s b c-mesh over")
    # The trace goes to one terminal.
    top = tops[2] + high + 38
    canvas.line([(74, tops[2] + 84), (74, top)], "snoop", "dash")
    canvas.text(86, top - 14, "the trace of all charts", "s b c-snoop halo")
    for y, here in zip(tops, charts, strict=True):
        right = 36.0
        for chart in here:
            canvas.card(right, y + 38, 76, 46, "chart", [chart, "chart"])
            right += 84
        # From each broker to a chart of its host.
        canvas.line([(218, y + 61), (right - 8, y + 61)], "mesh")
        canvas.broker(218, y + 34, 126, 56, ["RabbitMQ", "this host's"])
    for y in tops[1:]:
        canvas.text(164, y + 56, "queue", "q over", at="middle")
    canvas.box(4, top, 348, 108, "snoop", r=10)
    for number in range(3):
        canvas.circle(22 + 16 * number, top + 17, 4.5, "line")
    canvas.text(200, top + 21, "one terminal, at the desk", "q", at="middle")
    canvas.line([(4, top + 33), (352, top + 33)], "snoop", "thin", arrow=False)
    lines = [line[line.index("] [", 8) + 2 :] for line in TRACE]
    canvas.lines_of_text(20, top + 54, lines, "m", pitch=20)
    return canvas


def two_machines() -> Canvas:
    """The lamp and the switch of the quick start; narrow enough for a phone."""
    canvas = Canvas(
        430,
        316,
        "A lamp and a switch on two machines",
        "The switch on 192.168.1.72 transmits TOGGLE to the brokers of both machines. The lamp on "
        "192.168.1.71 takes it from the queue at its own machine's broker.",
    )
    wide = 204.0
    left, right = 4.0, 222.0
    _host(canvas, left, 8, wide, 300, "lamp.py", "192.168.1.71")
    _host(canvas, right, 8, wide, 300, "switch.py", "192.168.1.72")
    x, rail = right + 66, 174.0
    canvas.line([(x, 96), (x, 241)], "mesh", "thick")
    canvas.line([(x, rail), (left + 150, rail), (left + 150, 241)], "mesh", "thick")
    canvas.circle(x, rail, 4, "mesh")
    canvas.text(x + 10, 132, "transmit(TOGGLE)", "s b c-mesh over")
    canvas.line([(left + 62, 240), (left + 62, 98)], "mesh")
    canvas.text(left + 70, 136, "the lamp's queue", "q over")
    canvas.card(left + 36, 46, 132, 50, "chart", ["lamp", "a chart"])
    canvas.card(right + 36, 46, 132, 50, "chart", ["switch", "a chart"])
    canvas.broker(left + 20, 236, 164, 58, ["RabbitMQ", "port 5672"])
    canvas.broker(right + 20, 236, 164, 58, ["RabbitMQ", "port 5672"])
    return canvas


def three_networks() -> Canvas:
    """What goes by each of the three networks, between two hosts."""
    canvas = Canvas(
        736,
        546,
        "The three networks over two hosts",
        "fan and hob run on host .71, tap on host .72. On the mesh, fan sends an event to the "
        "exchange miros.mesh on both brokers; queues lead to the FIFOs of hob and tap. On "
        "snoop_trace and snoop_spy, fan's lines go the same way to the terminals of hob and tap.",
    )
    columns = (
        (8.0, 148.0, "the sender"),
        (196.0, 196.0, "the brokers"),
        (452.0, 276.0, "the others"),
    )
    for x, w, head in columns:
        canvas.text(x + w / 2, 20, head, "q b", at="middle")
    bands = (
        ("mesh", "mesh", "miros.mesh", "fan.transmit(event)", ("on from start_at to stop",), ""),
        (
            "snoop_trace",
            "snoop",
            "miros.snoop.trace",
            "fan changes state",
            ("while enabled",),
            "dash",
        ),
        ("snoop_spy", "snoop", "miros.snoop.spy", "fan does anything", ("while enabled",), "dot"),
    )
    for number, (name, kind, exchange, what, when, style) in enumerate(bands):
        top = 34.0 + number * 170
        canvas.box(8, top, 720, 158, "host", r=12)
        canvas.text(22, top + 24, name, f"h c-{kind}")
        canvas.lines_of_text(22, top + 42, when, "q")
        canvas.card(22, top + 74, 132, 50, "chart", ["fan", "at .71"])
        canvas.text(22, top + 142, what, "k")
        for row, (address, other) in enumerate((("71", "hob"), ("72", "tap"))):
            y = top + 14 + row * 70
            canvas.broker(206, y, 176, 60, [exchange, f"exchange at 192.168.1.{address}"])
            way = [(154, top + 99), (180, top + 99), (180, y + 32), (206, y + 32)]
            canvas.line(way, kind, style)
            if kind == "mesh":
                canvas.queue(420, y + 17, 136, 30, kind, "durable")
            else:
                canvas.queue(420, y + 17, 136, 30, kind, "1,000 lines")
            canvas.line([(382, y + 32), (420, y + 32)], kind, style)
            canvas.line([(556, y + 32), (590, y + 32)], kind, style)
            where = "FIFO" if kind == "mesh" else "terminal"
            canvas.card(590, y + 7, 126, 50, "chart", [other, f"{where}, at .{address}"])
    return canvas


def three_networks_narrow() -> Canvas:
    """The same for a phone."""
    wide = three_networks()
    canvas = Canvas(430, 588, f"{wide.title}, for a narrow page", wide.says)
    for x, head in ((38.0, "sender"), (162.0, "brokers"), (378.0, "the others")):
        canvas.text(x, 18, head, "q b", at="middle")
    bands = (
        ("mesh", "mesh", "miros.mesh", "fan.transmit(event)", "on from start_at to stop", ""),
        ("snoop_trace", "snoop", "miros.snoop.trace", "fan changes state", "while enabled", "dash"),
        ("snoop_spy", "snoop", "miros.snoop.spy", "fan does anything", "while enabled", "dot"),
    )
    for number, (name, kind, exchange, what, when, style) in enumerate(bands):
        top = 28.0 + number * 186
        canvas.box(2, top, 426, 178, "host", r=12)
        canvas.text(12, top + 24, name, f"h c-{kind}")
        canvas.text(110 if kind == "snoop" else 62, top + 24, when, "q")
        canvas.text(418, top + 24, what, "k", at="end")
        middle = top + 105
        canvas.card(10, middle - 25, 58, 50, "chart", ["fan", "at .71"])
        for row, (address, other) in enumerate((("71", "hob"), ("72", "tap"))):
            y = top + 72 + row * 66
            canvas.broker(92, y - 28, 140, 56, [exchange, f"exchange at .{address}"])
            canvas.line([(68, middle), (80, middle), (80, y), (92, y)], kind, style)
            canvas.queue(252, y - 15, 66, 30, kind, "queue")
            canvas.line([(232, y), (252, y)], kind, style)
            canvas.line([(318, y), (336, y)], kind, style)
            where = "FIFO" if kind == "mesh" else "terminal"
            canvas.card(336, y - 25, 84, 50, "chart", [other, f"{where}, .{address}"])
    return canvas


def three_hosts() -> Canvas:
    """Which connections there are between three hosts."""
    canvas = Canvas(
        736,
        396,
        "The connections of three charts on three hosts",
        "Each chart has a publisher to each of the three brokers, and a consumer at its own host's "
        "broker. The brokers are not connected with each other.",
    )
    wide, gap = 224.0, 24.0
    xs = [8 + number * (wide + gap) for number in range(3)]
    names = ("fan", "tap", "lid")
    for number, x in enumerate(xs):
        _host(canvas, x, 8, wide, 344, f"host {number + 1}", f"192.168.1.7{number + 1}")
    broker_y = 278.0
    for number, x in enumerate(xs):
        rail = 132.0 + 36 * number
        start = x + 44
        # Each chart's lines arrive at a place of their own at each broker.
        for other in xs:
            at = other + 70 + 28 * number
            canvas.line([(start, 98), (start, rail), (at, rail), (at, broker_y + 4)], "mesh")
        canvas.circle(start, rail, 4, "mesh")
        canvas.line([(x + 186, broker_y + 5), (x + 186, 100)], "chart", "thick")
        canvas.text(start + 8, 117, f"{names[number]}'s publishers", "q over")
    for number, x in enumerate(xs):
        canvas.card(x + 20, 42, 184, 56, "chart", [names[number], "chart"])
        canvas.broker(x + 22, broker_y, 180, 60, ["RabbitMQ", "knows no other broker"])
    canvas.line([(60, 376), (96, 376)], "mesh")
    canvas.text(104, 380, "publishes: to every broker", "s")
    canvas.line([(390, 376), (426, 376)], "chart", "thick")
    canvas.text(434, 380, "consumes: at its own broker only", "s")
    return canvas


def three_hosts_narrow() -> Canvas:
    """The same for a phone."""
    above = three_hosts()
    canvas = Canvas(430, 400, f"{above.title}, for a narrow page", above.says)
    wide, gap = 138.0, 6.0
    xs = [2 + number * (wide + gap) for number in range(3)]
    names = ("fan", "tap", "lid")
    for number, x in enumerate(xs):
        canvas.box(x, 4, wide, 336, "host", r=12)
        canvas.text(x + 12, 24, f"host {number + 1}", "b")
        canvas.text(x + 12, 41, f"192.168.1.7{number + 1}", "k")
    broker_y = 266.0
    for number, x in enumerate(xs):
        rail = 136.0 + 34 * number
        start = x + 24
        for other in xs:
            at = other + 42 + 20 * number
            canvas.line([(start, 102), (start, rail), (at, rail), (at, broker_y + 4)], "mesh")
        canvas.circle(start, rail, 4, "mesh")
        canvas.line([(x + 114, broker_y + 5), (x + 114, 104)], "chart", "thick")
        canvas.text(start + 6, 122, "publishers", "q over")
    for number, x in enumerate(xs):
        canvas.card(x + 8, 52, wide - 16, 50, "chart", [names[number], "chart"])
        canvas.broker(x + 6, broker_y, wide - 12, 60, ["RabbitMQ", "knows no other"])
    canvas.line([(40, 360), (76, 360)], "mesh")
    canvas.text(84, 364, "publishes: to every broker", "s")
    canvas.line([(40, 384), (76, 384)], "chart", "thick")
    canvas.text(84, 388, "consumes: at its own broker only", "s")
    return canvas


def slow_broker() -> Canvas:
    """A backlog for each broker, one of which is full; narrow enough for a phone."""
    canvas = Canvas(
        430,
        260,
        "One sick broker holds up no other",
        "A chart has a backlog for each of three brokers. Two are nearly empty. The third broker "
        "takes nothing: its backlog is full, and its oldest events are dropped and counted.",
    )
    canvas.card(4, 98, 88, 54, "chart", ["fan", "transmit"])
    rows: Sequence[tuple[str, str, int, str]] = (
        ("KEEPING_UP", "mesh", 1, "192.168.1.71"),
        ("KEEPING_UP", "mesh", 2, "192.168.1.72"),
        ("STALLED", "no", 9, "192.168.1.73"),
    )
    for number, (condition, kind, full, address) in enumerate(rows):
        y = 14.0 + number * 82
        middle = y + 32
        canvas.line([(92, 125), (108, 125), (108, middle), (126, middle)], "mesh")
        canvas.box(126, y + 14, 156, 36, "card", r=4)
        for place in range(full):
            canvas.box(264 - place * 16.5, y + 19, 12, 26, kind, r=2)
        canvas.line([(282, middle), (314, middle)], kind, "dash" if kind == "no" else "")
        if kind == "no":
            canvas.cross(296, middle)
        canvas.text(128, y + 7, condition, f"k c-{kind}")
        canvas.broker(314, y + 4, 112, 56, [address, "RabbitMQ"])
    canvas.text(128, 252, "full: the oldest are dropped, and counted", "q c-no")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "overview": overview,
    "overview_narrow": overview_narrow,
    "two_machines": two_machines,
    "three_networks": three_networks,
    "three_networks_narrow": three_networks_narrow,
    "three_hosts": three_hosts,
    "three_hosts_narrow": three_hosts_narrow,
    "slow_broker": slow_broker,
}
