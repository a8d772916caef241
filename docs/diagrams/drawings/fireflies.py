"""A recorded run of the fireflies: who flashed when.

``python examples/fireflies/watch.py --record docs/diagrams/drawings/fireflies.json < /dev/null``
records one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..canvas import Canvas

RECORD = Path(__file__).with_suffix(".json")
SECONDS = 60
FIREFLIES = 20
_LEFT, _RIGHT = 34.0, 728.0
_TOP, _ROW = 52.0, 9.0


def run() -> Canvas:
    """Every flash of a minute."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    said = [(when, what) for when, what in recorded if isinstance(what, str) and when < SECONDS]
    bottom = _TOP + FIREFLIES * _ROW
    canvas = Canvas(
        736,
        bottom + 46,
        "Who flashed when, in a minute of the fireflies",
        "Each row is a firefly, each dot a flash. At first the dots are anywhere; then they "
        "stand below each other. " + " ".join(f"After {when:.0f} s: {what}" for when, what in said),
    )
    for number, (when, what) in enumerate(said):
        x = _at(when)
        canvas.line([(x, 28.0), (x, bottom + 2)], "thread", "dash thin", arrow=False)
        short = what.partition("!")[0].partition(",")[0].partition(":")[0].rstrip(".").lower()
        canvas.text(x, 14.0 if number % 2 else 26.0, short, "q halo", at="middle")
    for when, what in recorded:
        if isinstance(what, int) and when < SECONDS:
            canvas.circle(_at(when), _TOP + (what + 0.5) * _ROW, 2.2, "mesh")
    canvas.line([(_LEFT, bottom + 6), (_RIGHT, bottom + 6)], "line", "thin", arrow=False)
    for second in range(0, SECONDS + 1, 10):
        canvas.line([(_at(second), bottom + 6), (_at(second), bottom + 11)], "line", arrow=False)
        canvas.text(_at(second), bottom + 26, f"{second}", "q", at="middle")
    canvas.text(381.0, bottom + 42, "seconds", "q", at="middle")
    for number in (0, FIREFLIES - 1):
        canvas.text(26.0, _TOP + number * _ROW + 9, f"{number + 1}", "q", at="end")
    return canvas


def _at(second: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * second / SECONDS


DRAWINGS: dict[str, Callable[[], Canvas]] = {"fireflies_run": run}
