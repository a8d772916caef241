"""The picture of a night with fireflies, as text for a terminal. Knows no chart, clock or file.

Each character cell is two pixels, the upper half block in one colour upon another. A picture is a
background, which never changes, and the light of fireflies, which is added to it; so grass and
trees show up when a firefly passes. A frame has only the cells that have changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

Colour = tuple[int, int, int]

LIGHT: Colour = (190, 235, 70)
WHITE_HOT: Colour = (65, 20, 90)
"""What the middle of a firefly has more of."""

RADIUS = 6  # pixels, in the largest picture
MOST_COLUMNS, MOST_ROWS = 100, 30


class Depth(Enum):
    """What a terminal can show."""

    PLAIN = "characters only"
    PALETTE = "256 colours"
    FULL = "24 bits"


class Spark(NamedTuple):
    """One firefly: a place, from 0 to 1 in both directions, and how bright it is, from 0 to 1."""

    x: float
    y: float
    light: float


def _spot(scale: float) -> list[tuple[int, int, float, float]]:
    """The pixels around a firefly, with their shares of its light and of its white middle."""
    pixels = []
    radius = max(2, round(RADIUS * scale))
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            square = (dx * dx + dy * dy) / (scale * scale)
            halo = 0.42 * math.exp(-square / 9) + math.exp(-square / 0.8)
            pixels.append((dx, dy, halo, math.exp(-square / 0.5)))
    return pixels


def background(columns: int, rows: int, seed: int = 7) -> list[list[Colour]]:
    """Paint sky, stars, moon, firs and grass: ``2 * rows`` lines of ``columns`` pixels."""
    chance = random.Random(seed)
    height = 2 * rows
    picture = [
        [_mix((5, 7, 24), (22, 34, 58), y / height) for _ in range(columns)] for y in range(height)
    ]
    for _ in range(columns * height // 130):
        x, y = chance.randrange(columns), chance.randrange(max(1, height * 6 // 10))
        picture[y][x] = _mix(picture[y][x], (200, 205, 230), chance.uniform(0.1, 0.5))
    moon_x, moon_y, moon = columns * 0.84, height * 0.2, max(2.0, height * 0.075)
    for y in range(height):
        for x in range(columns):
            away = math.hypot(x - moon_x, y - moon_y) / moon
            shine = 1.0 if away < 1 else 0.22 * math.exp(-(away - 1) / 1.3)
            picture[y][x] = _mix(picture[y][x], (228, 226, 204), shine)
    ground = [
        height * (0.86 + 0.03 * math.sin(x / 9) + 0.02 * math.sin(x / 4 + 1))
        for x in range(columns)
    ]
    for place, size in ((0.07, 0.62), (0.16, 0.46), (0.93, 0.55), (0.70, 0.34)):
        _fir(picture, int(columns * place), int(height * 0.88), int(height * size))
    for x in range(columns):
        top = ground[x] - chance.uniform(0, height * 0.07)
        for y in range(max(0, int(top)), height):
            picture[y][x] = _mix((9, 24, 14), (5, 13, 8), (y - top) / max(1.0, height - top))
    return picture


def _fir(picture: list[list[Colour]], x: int, foot: int, size: int) -> None:
    for step in range(size):
        y = foot - size + step
        half = (step % 6 + step / 3) * 0.42
        for dx in range(-int(half), int(half) + 1):
            if 0 <= y < len(picture) and 0 <= x + dx < len(picture[0]):
                picture[y][x + dx] = (6, 15, 14)


def _mix(one: Colour, other: Colour, part: float) -> Colour:
    red, green, blue = (int(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


class Night:
    """The picture on one terminal.

    Args:
        columns: the width in cells.
        rows: the height in cells.
        depth: what the terminal can show.
        left: how many cells the picture is from the left edge.
        top: how many from the upper one.
    """

    def __init__(
        self, columns: int, rows: int, depth: Depth, *, left: int = 0, top: int = 0
    ) -> None:
        self.columns, self.rows = columns, rows
        self._depth = depth
        self._left, self._top = left, top
        self._ground = background(columns, rows)
        self._spot = _spot(max(0.4, min(1.0, rows / MOST_ROWS)))
        self._shown: dict[tuple[int, int], str] = {}
        self._touched: set[tuple[int, int]] = {(x, y) for y in range(rows) for x in range(columns)}

    def frame(self, sparks: Iterable[Spark], lightning: float = 0.0) -> str:
        """What to write so that the terminal shows these fireflies, and lightning from 0 to 1."""
        light = self._light_of(sparks)
        lit = {(x, y // 2) for x, y in light}
        if lightning > 0:
            lit |= {(x, y) for y in range(self.rows) for x in range(self.columns)}
        parts = []
        before = (-2, -2)
        style = ""
        for x, y in sorted(self._touched | lit, key=lambda cell: (cell[1], cell[0])):
            upper = self._pixel(x, 2 * y, light, lightning)
            lower = self._pixel(x, 2 * y + 1, light, lightning)
            cell_style, character = self._cell(upper, lower)
            cell = cell_style + character
            if self._shown.get((x, y)) == cell:
                continue
            self._shown[x, y] = cell
            if before != (x - 1, y):
                parts.append(f"\x1b[{self._top + y + 1};{self._left + x + 1}H")
            if cell_style != style:
                parts.append(cell_style)
                style = cell_style
            parts.append(character)
            before = (x, y)
        self._touched = lit
        return "".join(parts) + ("\x1b[0m" if style else "")

    def _light_of(self, sparks: Iterable[Spark]) -> dict[tuple[int, int], tuple[float, float]]:
        light: dict[tuple[int, int], tuple[float, float]] = {}
        for spark in sparks:
            middle_x = round(spark.x * (self.columns - 1))
            middle_y = round(spark.y * (2 * self.rows - 1))
            for dx, dy, halo, core in self._spot:
                share = halo * spark.light
                x, y = middle_x + dx, middle_y + dy
                if share > 0.02 and 0 <= x < self.columns and 0 <= y < 2 * self.rows:
                    former = light.get((x, y), (0.0, 0.0))
                    light[x, y] = former[0] + share, former[1] + core * spark.light
        return light

    def _pixel(
        self,
        x: int,
        y: int,
        light: Mapping[tuple[int, int], tuple[float, float]],
        lightning: float,
    ) -> Colour:
        red, green, blue = self._ground[y][x]
        halo, core = light.get((x, y), (0.0, 0.0))
        return (
            min(255, int(red + LIGHT[0] * halo + WHITE_HOT[0] * core + 120 * lightning)),
            min(255, int(green + LIGHT[1] * halo + WHITE_HOT[1] * core + 125 * lightning)),
            min(255, int(blue + LIGHT[2] * halo + WHITE_HOT[2] * core + 160 * lightning)),
        )

    def _cell(self, upper: Colour, lower: Colour) -> tuple[str, str]:
        """How to show two pixels: the codes that choose the colours, and the character."""
        if self._depth is Depth.PLAIN:
            return "", _character(max(upper[1], lower[1]))
        if self._depth is Depth.PALETTE:
            return f"\x1b[38;5;{in_palette(upper)};48;5;{in_palette(lower)}m", "▀"
        above = ";".join(str(part & 0xFC) for part in upper)
        below = ";".join(str(part & 0xFC) for part in lower)
        return f"\x1b[38;2;{above};48;2;{below}m", "▀"


def _character(green: int) -> str:
    for least, character in ((230, "@"), (170, "O"), (110, "o"), (75, "."), (0, " ")):
        if green >= least:
            return character
    return " "


def in_palette(colour: Colour) -> int:
    """The nearest of the 256 colours of xterm: of its cube, or of its greys."""
    steps = [0 if part < 48 else 1 if part < 115 else (part - 35) // 40 for part in colour]
    in_cube = tuple(0 if step == 0 else 55 + 40 * step for step in steps)
    level = min(23, max(0, (sum(colour) // 3 - 3) // 10))
    grey = (8 + 10 * level,) * 3
    if _distance(colour, grey) < _distance(colour, in_cube):
        return 232 + level
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2]


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
