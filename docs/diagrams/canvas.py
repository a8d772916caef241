"""A canvas that boxes, lines and texts are painted on, and that becomes an SVG file.

Pure: no file, no clock, no font of the machine. Texts are measured by a table of widths that is a
little wide for the usual fonts, so that boxes are large enough with any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from . import language

Point = tuple[float, float]

_NARROW = set("iljtfrI.,:;'|!()[]/ -\"`·")
_WIDE = set("mwMW@%—…→←")


def width_of(text: str, size: float = 13.0, *, mono: bool = False, bold: bool = False) -> float:
    """How wide a text is at most, in pixels."""
    if mono:
        return 0.605 * size * len(text)
    units = 0.0
    for letter in text:
        if letter in _NARROW:
            units += 0.33
        elif letter in _WIDE:
            units += 0.9
        elif letter.isupper() or letter.isdigit():
            units += 0.66 if letter.isupper() else 0.57
        else:
            units += 0.555
    return units * size * (1.07 if bold else 1.0)


_SIZES = {"h": 15.0, "s": 12.0, "q": 12.0, "m": 12.0, "k": 11.5, "n": 11.0}


def width_as(text: str, style: str) -> float:
    """How wide a text is in one of the styles of `language`."""
    kinds = style.split()
    size = next((_SIZES[kind] for kind in kinds if kind in _SIZES), 13.0)
    return width_of(
        text, size, mono="m" in kinds or "k" in kinds, bold="b" in kinds or "h" in kinds
    )


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


class Canvas:
    """A picture in the making.

    Args:
        width: in pixels.
        height: in pixels.
        title: what the picture is.
        says: what it shows, for those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str, says: str) -> None:
        self.width, self.height = width, height
        self.title, self.says = title, says
        self._parts: list[str] = []
        self._texts: list[str] = []

    @property
    def texts(self) -> list[str]:
        """Every text on it."""
        return list(self._texts)

    def box(
        self, x: float, y: float, w: float, h: float, kind: str, *, r: float = 7, style: str = ""
    ) -> None:
        """A box of one of `language.KINDS`."""
        if kind not in language.KINDS:
            raise ValueError(kind)
        self._shape(x, y, w, h, f"box-{kind} {style}".strip(), r)

    def _shape(self, x: float, y: float, w: float, h: float, style: str, r: float) -> None:
        self._parts.append(
            f'<rect class="{style}" x="{_number(x)}" y="{_number(y)}" width="{_number(w)}" '
            f'height="{_number(h)}" rx="{_number(r)}"/>'
        )

    def text(self, x: float, y: float, text: str, style: str = "", *, at: str = "start") -> None:
        """A line of text; ``y`` is its base line, ``at`` where in it ``x`` is."""
        anchor = "" if at == "start" else f' text-anchor="{at}"'
        css = f' class="{style}"' if style else ""
        self._texts.append(text)
        self._parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}"{css}{anchor}>{escape(text)}</text>'
        )

    def lines_of_text(
        self,
        x: float,
        y: float,
        lines: Sequence[str],
        style: str = "",
        *,
        at: str = "start",
        pitch: float = 17,
    ) -> None:
        """Several lines of text, the first at ``y``."""
        for number, line in enumerate(lines):
            self.text(x, y + number * pitch, line, style, at=at)

    def card(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        kind: str,
        lines: Sequence[str],
        *,
        first: str = "b",
        rest: str = "q",
        r: float = 7,
    ) -> None:
        """A box with lines of text in its middle, the first of which is its name."""
        self.box(x, y, w, h, kind, r=r)
        top = y + h / 2 - 8.5 * (len(lines) - 1) + 4.5
        for number, line in enumerate(lines):
            style = first if number == 0 else rest
            self.text(x + w / 2, top + 17 * number, line, style, at="middle")

    def broker(
        self, x: float, y: float, w: float, h: float, lines: Sequence[str], *, rest: str = "q"
    ) -> None:
        """A broker: a barrel, as stores of data are drawn."""
        lid = 7.0
        shape = (
            f"M{_number(x)} {_number(y + lid)}v{_number(h - 2 * lid)}"
            f"a{_number(w / 2)} {lid:g} 0 0 0 {_number(w)} 0v{_number(-(h - 2 * lid))}"
            f"a{_number(w / 2)} {lid:g} 0 0 0 {_number(-w)} 0z"
            f"a{_number(w / 2)} {lid:g} 0 0 0 {_number(w)} 0"
        )
        self._parts.append(f'<path class="box-broker" d="{shape}"/>')
        top = y + h / 2 - 8 * (len(lines) - 1) + 4.5 + lid * 0.85
        for number, line in enumerate(lines):
            style = "b" if number == 0 else rest
            self.text(x + w / 2, top + 16 * number, line, style, at="middle")

    def queue(self, x: float, y: float, w: float, h: float, kind: str, label: str) -> None:
        """A queue: a box with bars at its right end, where the next one leaves."""
        self.box(x, y, w, h, kind, r=3)
        for bar in (8, 16, 24):
            self.line([(x + w - bar, y), (x + w - bar, y + h)], kind, "thin", arrow=False)
        self.text(x + (w - 24) / 2, y + h / 2 + 4.5, label, "s", at="middle")

    def line(
        self,
        points: Sequence[Point],
        kind: str = "line",
        style: str = "",
        *,
        arrow: bool = True,
        both: bool = False,
        r: float = 7,
    ) -> None:
        """A line through points with rounded corners, and an arrow's head at its end."""
        if kind not in language.LINES:
            raise ValueError(kind)
        drawn = list(points)
        if arrow:
            drawn[-1] = _towards(drawn[-1], drawn[-2], 6)
        if both:
            drawn[0] = _towards(drawn[0], drawn[1], 6)
        css = f"l-{kind} {style}".strip()
        self._parts.append(f'<path class="{css}" d="{_rounded(drawn, r)}"/>')
        if arrow:
            self._head(points[-2], points[-1], kind)
        if both:
            self._head(points[1], points[0], kind)

    def curve(
        self, start: Point, end: Point, kind: str = "line", style: str = "", *, bend: float = 0.5
    ) -> None:
        """A curve that leaves and arrives vertically, with an arrow's head."""
        (x1, y1), (x2, y2) = start, end
        reach = (y2 - y1) * bend
        tip = y2 - (6 if y2 > y1 else -6)
        points = [x1, y1, x1, y1 + reach, x2, tip - reach, x2, tip]
        a, b, c, d, e, f, g, h = (_number(one) for one in points)
        self._parts.append(
            f'<path class="{f"l-{kind} {style}".strip()}" d="M{a} {b}C{c} {d} {e} {f} {g} {h}"/>'
        )
        self._head((x2, tip), (x2, y2), kind)

    def _head(self, before: Point, tip: Point, kind: str) -> None:
        back = _towards(tip, before, 9)
        dx, dy = (tip[0] - back[0]) / 9 * 4, (tip[1] - back[1]) / 9 * 4
        corners = [tip, (back[0] - dy, back[1] + dx), (back[0] + dy, back[1] - dx)]
        self._polygon(corners, f"f-{kind}")

    def _polygon(self, corners: Sequence[Point], style: str) -> None:
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)
        self._parts.append(f'<polygon class="{style}" points="{text}"/>')

    def diamond(self, x: float, y: float, kind: str = "line") -> None:
        """The sign of UML for "owns", with its upper tip at a point."""
        self._polygon([(x, y), (x + 5, y + 8), (x, y + 16), (x - 5, y + 8)], f"f-{kind}")

    def triangle(self, x: float, y: float) -> None:
        """The sign of UML for "inherits from", with its tip at a point."""
        corners = [(x, y), (x + 8, y + 12), (x - 8, y + 12)]
        self._polygon(corners, "triangle")

    def circle(self, x: float, y: float, radius: float, kind: str, *, filled: bool = True) -> None:
        """A dot or a ring."""
        css = f"f-{kind}" if filled else f"l-{kind}"
        self._parts.append(
            f'<circle class="{css}" cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"/>'
        )

    def number(self, x: float, y: float, number: int | str, kind: str = "line") -> None:
        """A number in a dot, which the text beside can name."""
        self.circle(x, y, 9, kind)
        self.text(x, y + 4, str(number), "n onfill", at="middle")

    def cross(self, x: float, y: float, size: float = 7) -> None:
        """The sign for what is lost."""
        for sign in (-1, 1):
            self.line(
                [(x - size, y - sign * size), (x + size, y + sign * size)],
                "no",
                "thick",
                arrow=False,
            )

    def svg(self) -> str:
        """The file."""
        w, h = _number(self.width), _number(self.height)
        # The page's style may shrink it to four fifths: its smallest text has 11 pixels.
        size = f"width:100%;max-width:{w}px;min-width:{_number(self.width * 0.82)}px"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="mr" viewBox="0 0 {w} {h}" '
            f'width="{w}" height="{h}" role="img" style="{size}">\n'
            f"<title>{escape(self.title)}</title>\n<desc>{escape(self.says)}</desc>\n"
            f"<style>\n{language.standalone_style()}</style>\n"
        )
        return head + "\n".join(self._parts) + "\n</svg>\n"


def _towards(point: Point, other: Point, distance: float) -> Point:
    """The point so far from one towards another."""
    dx, dy = other[0] - point[0], other[1] - point[1]
    length = max((dx * dx + dy * dy) ** 0.5, 0.001)
    return point[0] + dx / length * distance, point[1] + dy / length * distance


def _rounded(points: Sequence[Point], r: float) -> str:
    """The path through points, with its corners rounded."""
    path = f"M{_number(points[0][0])} {_number(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        reach = min(r, _distance(before, corner) / 2, _distance(corner, after) / 2)
        a, b = _towards(corner, before, reach), _towards(corner, after, reach)
        path += f"L{_number(a[0])} {_number(a[1])}"
        path += f"Q{_number(corner[0])} {_number(corner[1])} {_number(b[0])} {_number(b[1])}"
    return path + f"L{_number(points[-1][0])} {_number(points[-1][1])}"


def _distance(a: Point, b: Point) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)
