"""The two classes of charts and what they own, and the states of a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from miros_rabbitmq.amqp.link_state import LIFE, SessionState, Step

from .. import statechart
from ..canvas import Canvas
from ..statechart import State, Statechart, Transition


@dataclass(frozen=True)
class Owns:
    """An edge of the class diagram.

    Args:
        owner: the name of a class.
        owned: that of another.
        attribute: of the owner, which holds it.
        times: how many.
    """

    owner: str
    owned: str
    attribute: str
    times: str = ""


OWNED = (
    Owns("MirosNets", "Node", "node"),
    Owns("Node", "Membership", "membership"),
    Owns("Node", "TopicNetwork", "mesh", "1"),
    Owns("Node", "Snoops", "snoops"),
    Owns("Node", "Reactor", "_reactors", "2"),
    Owns("TopicNetwork", "Codec", "codec"),
    Owns("TopicNetwork", "Sealer", "_sealer"),
    Owns("TopicNetwork", "Sender", "_senders", "one a broker"),
    Owns("TopicNetwork", "Receiver", "receiver", "1"),
    Owns("Snoop", "TopicNetwork", "_network", "0..1"),
    Owns("Sender", "Outbox", "_outbox"),
    Owns("Sender", "Schedule", "_schedule"),
    Owns("Sender", "Link", "link"),
    Owns("Receiver", "Link", "link"),
    Owns("TopicNetwork", "EnvelopeTaker", "_taker"),
    Owns("Membership", "LocalAreaNetwork", "_lan"),
    Owns("Membership", "Lookout", "_lookout"),
)
"""Who owns whom, by which attribute; a test looks for each in the code."""

INHERITS = (
    ("NetworkedActiveObject", "ActiveObject"),
    ("NetworkedFactory", "Factory"),
)


def _owned(canvas: Canvas, points: list[tuple[float, float]], times: str = "") -> None:
    x, y = points[0]
    canvas.line([(x, y + 14), *points[1:]], "line", arrow=False)
    canvas.diamond(x, y)
    if times:
        end_x, end_y = points[-1]
        canvas.text(end_x + 6, end_y - 6, times, "q halo")


def classes() -> Canvas:
    """The class diagram."""
    canvas = Canvas(
        736,
        744,
        "The classes and what they own",
        "NetworkedActiveObject and NetworkedFactory inherit from miros's ActiveObject and "
        "Factory, and own a MirosNets, which owns a Node. The node owns a Membership, which knows "
        "the brokers, two reactors, the mesh and two snoops. A TopicNetwork owns a Codec, a "
        "Sealer, a Sender for each broker and a Receiver. Sender and Receiver each own a Link, "
        "which is one connection.",
    )

    def owned(points: list[tuple[float, float]], times: str = "") -> None:
        _owned(canvas, points, times)

    left, right = 196.0, 540.0
    for x, base, name, note in (
        (left, "ActiveObject", "NetworkedActiveObject", "flat state functions"),
        (right, "Factory", "NetworkedFactory", "callbacks"),
    ):
        canvas.card(x - 76, 8, 152, 50, "card", [base, "of miros"])
        canvas.line([(x, 66), (x, 96)], "line", arrow=False)
        canvas.triangle(x, 58)
        canvas.card(x - 104, 96, 208, 68, "chart", [name, note, "transmit, enable_snoop_…"])
    canvas.text(368, 134, "or", "q", at="middle")
    # MirosNets and the node.
    for x in (left, right):
        owned([(x, 164), (x, 196), (368, 196), (368, 216)])
    canvas.text(376, 190, "nets", "k halo")
    canvas.card(248, 216, 240, 56, "card", ["MirosNets", "flush, wait_for_peers, stats"])
    owned([(368, 272), (368, 300)])
    canvas.card(268, 300, 200, 50, "card", ["Node", "start, stop, exit, fork"])
    # What a node owns.
    row = 404.0
    owned([(368, 350), (368, 378), (104, 378), (104, row)])
    owned([(368, 350), (368, 378), (292, 378), (292, row)], "2")
    owned([(368, 350), (368, 378), (468, 378), (468, row)], "the mesh: 1")
    owned([(368, 350), (368, 378), (650, 378), (650, row)])
    canvas.card(
        8, row, 192, 68, "broker", ["Membership", "which brokers there are", "has a Lookout"]
    )
    canvas.card(
        216, row, 152, 68, "thread", ["Reactor", "a thread, an I/O loop", "for many charts"]
    )
    canvas.card(384, row, 168, 68, "mesh", ["TopicNetwork", "an exchange", "on every broker"])
    canvas.card(572, row, 156, 68, "snoop", ["Snoops", "trace and spy,", "while enabled"])
    canvas.line([(572, row + 46), (562, row + 46)], "line", arrow=False)
    canvas.line([(562, row + 46), (552, row + 46)], "line", "dash", arrow=False)
    canvas.text(562, row + 86, "0..1 each", "q", at="middle")
    # What a topic network owns.
    row = 528.0
    for x, times in ((70.0, ""), (206.0, ""), (392.0, "one a broker"), (612.0, "1")):
        owned([(468, 472), (468, 504), (x, 504), (x, row)], times)
    canvas.card(8, row, 124, 68, "mesh", ["Codec", "the keys,", "the serializer"])
    canvas.card(144, row, 124, 68, "mesh", ["Sealer", "numbers, encrypts,", "has the epoch"])
    canvas.card(296, row, 192, 68, "mesh", ["Sender", "owns an Outbox", "and a Schedule"])
    canvas.card(
        516, row, 192, 68, "mesh", ["Receiver", "owns a queue; hands on", "to an EnvelopeTaker"]
    )
    # Links.
    row = 648.0
    owned([(392, 596), (392, row)])
    owned([(612, 596), (612, row)])
    for x in (392.0, 612.0):
        canvas.card(
            x - 96, row, 192, 68, "card", ["Link", "its states, its health;", "one AMQP connection"]
        )
    canvas.diamond(24, 660)
    canvas.text(38, 673, "owns", "s")
    canvas.triangle(24, 694)
    canvas.text(38, 706, "inherits from", "s")
    return canvas


def classes_narrow() -> Canvas:
    """The same for a phone."""
    wide = classes()
    canvas = Canvas(430, 742, f"{wide.title}, for a narrow page", wide.says)
    left, middle, right = 106.0, 215.0, 324.0
    for x, base, name, note in (
        (left, "ActiveObject", "NetworkedActiveObject", "flat state functions"),
        (right, "Factory", "NetworkedFactory", "callbacks"),
    ):
        canvas.card(x - 76, 8, 152, 50, "card", [base, "of miros"])
        canvas.line([(x, 66), (x, 96)], "line", arrow=False)
        canvas.triangle(x, 58)
        canvas.card(x - 92, 96, 184, 68, "chart", [name, note, "transmit, enable_snoop_…"])
        _owned(canvas, [(x, 164), (x, 196), (middle, 196), (middle, 216)])
    canvas.text(middle, 134, "or", "q", at="middle")
    canvas.text(middle + 8, 190, "nets", "k halo")
    canvas.card(middle - 116, 216, 232, 50, "card", ["MirosNets", "flush, wait_for_peers, stats"])
    _owned(canvas, [(middle, 266), (middle, 300)])
    canvas.card(middle - 100, 300, 200, 50, "card", ["Node", "start, stop, exit, fork"])
    # What a node owns.
    row = 404.0
    owned = (
        (4.0, 96.0, "broker", "", ["Membership", "which brokers", "there are"]),
        (106.0, 88.0, "thread", "2", ["Reactor", "a thread,", "an I/O loop"]),
        (200.0, 112.0, "mesh", "the mesh: 1", ["TopicNetwork", "an exchange", "on every broker"]),
        (334.0, 92.0, "snoop", "", ["Snoops", "trace and spy,", "while enabled"]),
    )
    for x, w, kind, times, lines in owned:
        at = x + w / 2
        _owned(canvas, [(middle, 350), (middle, 378), (at, 378), (at, row)], times)
        canvas.card(x, row, w, 68, kind, lines)
    canvas.line([(334, row + 46), (323, row + 46)], "line", arrow=False)
    canvas.line([(323, row + 46), (312, row + 46)], "line", "dash", arrow=False)
    canvas.text(323, row + 86, "0..1 each", "q", at="middle")
    # What a topic network owns.
    row, network = 528.0, 256.0
    for x, w, times, lines in (
        (4.0, 88.0, "", ["Codec", "the keys,", "the serializer"]),
        (98.0, 80.0, "", ["Sealer", "numbers,", "encrypts"]),
        (184.0, 104.0, "one a broker", ["Sender", "owns an Outbox", "and a Schedule"]),
        (294.0, 132.0, "1", ["Receiver", "owns a queue; hands", "on to EnvelopeTaker"]),
    ):
        at = x + w / 2
        _owned(canvas, [(network, 472), (network, 504), (at, 504), (at, row)], times)
        canvas.card(x, row, w, 68, "mesh", lines)
    # Links.
    row = 646.0
    for at in (236.0, 360.0):
        _owned(canvas, [(at, 596), (at, row)])
        canvas.card(at - 56, row, 112, 68, "card", ["Link", "states, health;", "one connection"])
    canvas.diamond(24, 660)
    canvas.text(38, 673, "owns", "s")
    canvas.triangle(24, 694)
    canvas.text(38, 706, "inherits from", "s")
    return canvas


# A connection's states


def _grouped(table: Mapping[tuple[SessionState, Step], SessionState]) -> dict[str, list[str]]:
    """The states that share a step to the same state, where they are more than two: the step's
    name, and theirs."""
    shared: dict[tuple[Step, SessionState], list[str]] = {}
    for (state, step), to in table.items():
        shared.setdefault((step, to), []).append(state.name)
    groups: dict[str, list[str]] = {}
    for (step, _), names in shared.items():
        # A step from everywhere that leads to one of the same states is drawn by itself.
        if len(names) > 2 and step is not Step.START:
            groups[step.name] = names
    return groups


ORDER = (
    "NEW",
    "CONNECTING",
    "OPENING",
    "READY",
    "BLOCKED",
    "WAITING",
    "REFUSED",
    "CLOSING",
    "STOPPED",
)

SAID = {
    "NEW": "made, never started",
    "CONNECTING": "TCP, TLS, the AMQP handshake",
    "OPENING": "channel, exchange, queue",
    "READY": "messages flow",
    "BLOCKED": "the broker lets nobody publish",
    "WAITING": "for the next attempt, 0.1 to 5 s",
    "REFUSED": "user or vhost; again after 30 s",
    "CLOSING": "sends what waits, says good-bye",
    "STOPPED": "may be started again",
}

KIND = {"READY": "mesh", "BLOCKED": "broker", "REFUSED": "no"}


def link_chart() -> Statechart:
    """The table `LIFE` as a statechart: what several states have in common is around them."""
    groups = sorted(_grouped(LIFE).items(), key=lambda item: -len(item[1]))
    parents: dict[str, str] = {}
    around: list[State] = []
    drawn: dict[frozenset[str], str] = {}
    steps: list[Transition] = []
    names = {6: "started", 4: "at the broker"}
    for step, members in groups:
        key = frozenset(members)
        if key not in drawn:
            name = names[len(members)]
            outer = parents.get(members[0], "")
            around.append(State(name, outer, (), "host"))
            parents.update(dict.fromkeys(members, name))
            drawn[key] = name
        to = next(to for (_, one), to in LIFE.items() if one.name == step)
        steps.append(Transition(drawn[key], to.name, step))
    common = {step for step, _ in groups}
    steps += [
        Transition(state.name, to.name, step.name)
        for (state, step), to in LIFE.items()
        if step.name not in common
    ]
    states: list[State] = []
    for name in ORDER:
        for group in around:
            if group not in states and (
                parents.get(name) == group.name
                or group.name in _outer(parents.get(name, ""), around)
            ):
                states.append(group)
        states.append(State(name, parents.get(name, ""), (SAID[name],), KIND.get(name, "card")))
    return Statechart(states, steps, ["NEW"])


def _outer(name: str, around: list[State]) -> list[str]:
    outer = []
    while name:
        name = next(state.parent for state in around if state.name == name)
        outer.append(name)
    return outer


def link_states() -> Canvas:
    """The states of a connection, from the code's own table."""
    chart = link_chart()
    leads = ", ".join(f"{one.source} to {one.target} at {one.signal}" for one in chart.transitions)
    return statechart.draw(chart, "The states of a connection", f"Steps: {leads}.", least=230)


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "classes": classes,
    "classes_narrow": classes_narrow,
    "link_states": link_states,
}
