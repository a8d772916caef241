"""Statecharts: nested states in a column, and their transitions as lanes at the right.

The layout is the same for any statechart, so that those of the examples can be drawn from their
sources. States stand below each other, a child within its parent. A transition to the next state
goes straight down. Every other leaves its state at the right, below its label, runs in a lane, and
comes back at the right of its target. A transition of a parent holds for all of its children.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .canvas import Canvas, width_as

_PAD = 14.0
_GAP = 30.0
_LANE = 13.0
_LEFT = 34.0


@dataclass(frozen=True)
class Transition:
    """From one state to another.

    Args:
        source: the name of the state that has it.
        target: the name of the state that it leads to.
        signal: what causes it.
        does: what the chart does on the way.
    """

    source: str
    target: str
    signal: str
    does: str = ""


@dataclass(frozen=True)
class State:
    """A state.

    Args:
        name: it.
        parent: the name of the state that it is in, or empty.
        inside: what it does without leaving: ``entry / ...`` and the like.
        kind: of box, see `language`.
    """

    name: str
    parent: str = ""
    inside: Sequence[str] = ()
    kind: str = "chart"


@dataclass(frozen=True)
class Statechart:
    """States in the order of their source, and what leads from one to another.

    Args:
        states: a parent comes before its children, or after them.
        transitions: in the order of their sources.
        starts: the names of the states that are entered at first, one in a parent at most.
    """

    states: Sequence[State]
    transitions: Sequence[Transition]
    starts: Sequence[str] = ()

    def children(self, parent: str) -> list[State]:
        """The states right within another."""
        return [state for state in self.states if state.parent == parent]


@dataclass
class _Port:
    transition: Transition
    is_out: bool
    y: float = 0.0

    @property
    def high(self) -> float:
        return (36.0 if self.transition.does else 25.0) if self.is_out else 20.0


@dataclass
class _Box:
    state: State
    x: float
    w: float
    y: float = 0.0
    h: float = 0.0
    head: float = 0.0
    ports: list[_Port] = field(default_factory=list)
    children: list[_Box] = field(default_factory=list)


class _Layout:
    def __init__(self, chart: Statechart, least: float) -> None:
        self.chart = chart
        self.boxes: dict[str, _Box] = {}
        depth = max((self._depth(state) for state in chart.states), default=0)
        # The innermost states have the width that the widest line needs.
        lines = [line for state in chart.states for line in state.inside]
        inner = max(
            [least, *(width_as(line, "k") + 2 * _PAD for line in lines)]
            + [width_as(state.name, "b") + 2 * _PAD for state in chart.states]
        )
        self.width = inner + depth * (_LEFT + _PAD)
        self.right = _LEFT + self.width
        roots = self._boxes_in("", _LEFT, self.width)
        self._join_ports()
        self.bottom = self._place(roots, 12.0)
        self.lanes = self._lanes()

    def _depth(self, state: State) -> int:
        parents = {one.name: one.parent for one in self.chart.states}
        depth, name = 0, state.parent
        while name:
            depth, name = depth + 1, parents[name]
        return depth

    def _boxes_in(self, parent: str, x: float, w: float) -> list[_Box]:
        boxes = []
        for state in self.chart.children(parent):
            box = self.boxes[state.name] = _Box(state, x, w)
            box.children = self._boxes_in(state.name, x + _LEFT, w - _LEFT - _PAD)
            boxes.append(box)
        return boxes

    def straight(self, one: Transition) -> bool:
        """Whether it leads to the next state below, in the same parent."""
        source = self.boxes[one.source]
        siblings = self.chart.children(source.state.parent)
        names = [state.name for state in siblings]
        if source.children or one.target not in names:
            return False
        return names.index(one.target) == names.index(one.source) + 1

    def _join_ports(self) -> None:
        for one in self.chart.transitions:
            if not self.straight(one):
                self.boxes[one.source].ports.append(_Port(one, is_out=True))
                self.boxes[one.target].ports.append(_Port(one, is_out=False))
        order = {state.name: number for number, state in enumerate(self.chart.states)}
        for name, box in self.boxes.items():
            here = order[name]

            def rank(port: _Port, here: int = here) -> tuple[int, int]:
                other = port.transition.target if port.is_out else port.transition.source
                # What comes from above arrives above what leaves, and that above what goes down.
                there = order[other]
                if there < here:
                    return (0 if not port.is_out else 1, -there)
                return (2 if port.is_out else 3, -there)

            box.ports.sort(key=rank)

    def gap_below(self, box: _Box) -> float:
        """The room that the straight transitions of a state need for their labels."""
        labels = [one for one in self.chart.transitions if one.source == box.state.name]
        rows = sum(2 if one.does else 1 for one in labels if self.straight(one))
        return _GAP if rows <= 1 else _GAP + 15 * (rows - 1)

    def _place(self, boxes: list[_Box], y: float) -> float:
        for number, box in enumerate(boxes):
            box.y = y
            lines = 27.0 + 16 * len(box.state.inside) + (9 if box.state.inside else 5)
            ports = 8.0 + sum(port.high for port in box.ports)
            box.head = max(lines, ports)
            top = y + 4
            if not box.children and ports < lines:
                top += (lines - ports) / 2
            for port in box.ports:
                top += port.high
                port.y = top - (14 if port.is_out and port.transition.does else 4)
            if box.children:
                box.h = self._place(box.children, y + box.head + 6) + _PAD - y
            else:
                box.h = box.head
            y += box.h + (self.gap_below(box) if number < len(boxes) - 1 else 0)
        return y

    def _lanes(self) -> dict[int, int]:
        """Which lane each transition runs in: short ones inside, and none upon another."""
        spans: dict[int, list[float]] = {}
        for box in self.boxes.values():
            for port in box.ports:
                spans.setdefault(id(port.transition), []).append(port.y)
        taken: list[list[tuple[float, float]]] = []
        lanes: dict[int, int] = {}
        for key, ys in sorted(spans.items(), key=lambda item: max(item[1]) - min(item[1])):
            top, bottom = min(ys) - 5, max(ys) + 5
            free = (
                number
                for number, lane in enumerate(taken)
                if all(bottom < a or top > b for a, b in lane)
            )
            number = next(free, len(taken))
            if number == len(taken):
                taken.append([])
            taken[number].append((top, bottom))
            lanes[key] = number
        return lanes


def draw(chart: Statechart, title: str, says: str, *, least: float = 150) -> Canvas:
    """The picture of a statechart."""
    layout = _Layout(chart, least)
    ports = [port for box in layout.boxes.values() for port in box.ports if port.is_out]
    labels = [width_as(port.transition.signal, "s b") for port in ports]
    labels += [width_as(f"/ {port.transition.does}", "k") for port in ports if port.transition.does]
    label_x = layout.right + 10
    lane_x = label_x + max(labels, default=0) + 10
    lanes = max(layout.lanes.values(), default=-1) + 1
    straight = [
        max(width_as(one.signal, "s b"), width_as(f"/ {one.does}", "k") if one.does else 0.0)
        for one in chart.transitions
        if layout.straight(one)
    ]
    width = max(lane_x + lanes * _LANE, _LEFT * 2 + 60 + max(straight, default=0))
    canvas = Canvas(width + 6, layout.bottom + 12, title, says)
    for box in _parents_first(layout):
        style = "faint" if box.children else ""
        canvas.box(box.x, box.y, box.w, box.h, box.state.kind, r=11, style=style)
    for name in chart.starts:
        box = layout.boxes[name]
        y = box.y + 17
        canvas.circle(box.x - 20, y, 4.5, "line")
        canvas.line([(box.x - 15, y), (box.x, y)], "line")
    for box in layout.boxes.values():
        canvas.text(box.x + _PAD, box.y + 21, box.state.name, "b")
        canvas.lines_of_text(box.x + _PAD, box.y + 41, box.state.inside, "k", pitch=16)
    for one in chart.transitions:
        if layout.straight(one):
            continue
        ends = _ends(layout, one)
        (x1, y1), (x2, y2) = ends
        x = lane_x + layout.lanes[id(one)] * _LANE
        canvas.line([(x1, y1), (x, y1), (x, y2), (x2, y2)], "chart")
        canvas.text(label_x, y1 - 5, one.signal, "s b halo")
        if one.does:
            canvas.text(label_x, y1 + 14, f"/ {one.does}", "k halo")
    for source in layout.boxes.values():
        _draw_straight(canvas, layout, source)
    return canvas


def _draw_straight(canvas: Canvas, layout: _Layout, source: _Box) -> None:
    """The arrow to the next state, and the labels of all that it stands for."""
    ones = [
        one
        for one in layout.chart.transitions
        if one.source == source.state.name and layout.straight(one)
    ]
    if not ones:
        return
    target = layout.boxes[ones[0].target]
    x = source.x + min(50.0, source.w / 3)
    canvas.line([(x, source.y + source.h), (x, target.y)], "chart")
    rows: list[tuple[str, str]] = []
    for one in ones:
        rows.append((one.signal, "s b"))
        if one.does:
            rows.append((f"/ {one.does}", "k"))
    for number, (text, style) in enumerate(rows):
        canvas.text(x + 10, source.y + source.h + 19 + 15 * number, text, style)


def _ends(layout: _Layout, one: Transition) -> list[tuple[float, float]]:
    ends = []
    for name, is_out in ((one.source, True), (one.target, False)):
        box = layout.boxes[name]
        port = next(p for p in box.ports if p.transition is one and p.is_out == is_out)
        ends.append((box.x + box.w, port.y))
    return ends


def _parents_first(layout: _Layout) -> Iterator[_Box]:
    waiting = [box for box in layout.boxes.values() if not box.state.parent]
    while waiting:
        box = waiting.pop(0)
        yield box
        waiting += box.children
