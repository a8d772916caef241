"""Sequence diagrams: who says what to whom, from the top down.

A diagram is made of steps, each of which takes its height and moves the pen down. Participants
stand at the top, each with a line for its life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .canvas import Canvas, width_as

_TOP = 12.0
_HEAD = 54.0


@dataclass(frozen=True)
class Participant:
    """Somebody at the top.

    Args:
        lines: the name, and what else is to be said of it.
        kind: of box, see `language`.
        width: of the box.
    """

    lines: Sequence[str]
    kind: str
    width: float = 116


class Interaction:
    """A sequence diagram in the making; its methods are its steps, in their order."""

    def __init__(
        self,
        title: str,
        says: str,
        participants: dict[str, Participant],
        *,
        width: float = 736,
        margin: float = 8,
    ) -> None:
        self._title, self._says, self._width = title, says, width
        self._participants = participants
        first, *_, last = participants.values()
        left = margin + first.width / 2
        right = width - margin - last.width / 2
        gap = (right - left) / (len(participants) - 1)
        self._x = {key: left + gap * number for number, key in enumerate(participants)}
        self._y = _TOP + _HEAD + 14
        self._painters: list[Callable[[Canvas], None]] = []
        self._number = 0
        self._broken: list[tuple[str, float, float]] = []

    def message(
        self,
        sender: str,
        receiver: str,
        text: str,
        kind: str = "line",
        *,
        style: str = "",
        numbered: bool = True,
        lost: bool = False,
        more: str = "",
    ) -> None:
        """An arrow from one to another, with what it carries above it and a remark below."""
        self._y += 30
        y, x1, x2 = self._y, self._x[sender], self._x[receiver]
        if numbered:
            self._number += 1
        number = self._number if numbered else 0
        way = 1 if x2 > x1 else -1

        def paint(canvas: Canvas) -> None:
            end = x1 + 0.55 * (x2 - x1) if lost else x2 - way * 2
            canvas.line([(x1 + way * (11 if number else 2), y), (end, y)], kind, style)
            if lost:
                canvas.cross(end + way * 12, y)
            if number:
                canvas.number(x1, y, number, kind)
            middle = (x1 + x2) / 2 + (way * 5 if number else 0)
            canvas.text(middle, y - 7, text, "s halo", at="middle")
            if more:
                canvas.text(middle, y + 15, more, "q halo", at="middle")

        self._painters.append(paint)
        self._y += 16 if more else 4

    def does(self, who: str, lines: Sequence[str], kind: str, *, numbered: bool = True) -> None:
        """What one does by itself: a box on its line."""
        self._y += 14
        if numbered:
            self._number += 1
        number = self._number if numbered else 0
        wide = max(width_as(line, "s") for line in lines) + 22
        high = 17 * len(lines) + 11
        x, y = self._x[who], self._y
        left = min(max(x - wide / 2, 4), self._width - wide - 4)

        def paint(canvas: Canvas) -> None:
            canvas.box(left, y, wide, high, kind, r=5)
            canvas.lines_of_text(left + wide / 2, y + 18, lines, "s", at="middle")
            if number:
                canvas.number(max(left, 11), y, number, "line" if kind == "card" else kind)

        self._painters.append(paint)
        self._y += high

    def note(self, text: str, *, kind: str = "", space: float = 12) -> None:
        """A line across everything that says that time or the world goes on."""
        self._y += 14 + space
        y = self._y

        def paint(canvas: Canvas) -> None:
            wide = width_as(text, "q b") + 24
            middle = self._width / 2
            for a, b in ((8, middle - wide / 2), (middle + wide / 2, self._width - 8)):
                canvas.line([(a, y), (b, y)], kind or "line", "thin dot", arrow=False)
            style = f"b q halo c-{kind}" if kind else "b q halo"
            canvas.text(middle, y + 4, text, style, at="middle")

        self._painters.append(paint)
        self._y += 6

    def gone(self, who: str, label: str, height: float) -> None:
        """One is away from here on, for so many pixels: its line is red and broken."""
        start = self._y + 8
        self._broken.append((who, start, start + height))
        x = self._x[who]

        def paint(canvas: Canvas) -> None:
            canvas.cross(x, start)
            canvas.text(x - 14, start + 4, label, "s c-no halo", at="end")

        self._painters.append(paint)
        self._y += 14

    def space(self, height: float) -> None:
        """Nothing, for so many pixels."""
        self._y += height

    def canvas(self) -> Canvas:
        """The picture."""
        bottom = self._y + 22
        canvas = Canvas(self._width, bottom + 6, self._title, self._says)
        for key, who in self._participants.items():
            x = self._x[key]
            canvas.line([(x, _TOP + _HEAD), (x, bottom)], "line", "thin dash", arrow=False)
            for gone, start, end in self._broken:
                if gone == key:
                    canvas.line([(x, start), (x, end)], "no", "thick dot", arrow=False)
            left = x - who.width / 2
            if who.kind == "broker":
                canvas.broker(left, _TOP, who.width, _HEAD, who.lines)
            else:
                canvas.card(left, _TOP, who.width, _HEAD, who.kind, who.lines)
        for paint in self._painters:
            paint(canvas)
        return canvas
