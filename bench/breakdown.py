"""Where the time of one event goes, at its sender and its receiver.

Twice: by hooks around the steps (`roles.hooks`), in processor time for each event; and, where
py-spy is installed and may look into processes, by samples of what their threads are doing.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from .figure import Figure, Result, Size, judged, number
from .roles.hooks import REST, STEPS
from .stage import Stage, roles

SIDES = ("sender", "receiver")

SINGLE_EVENTS, SINGLE_PAUSE_S = 500, 0.005

SAMPLES_A_SECOND = 400
SAMPLED_EVENTS = 4
"""Times the number of events of a throughput measurement: this takes some seconds."""

HEADS = ["step", "under load, µs", "one at a time, µs"]

SMALL_US = 0.3
"""Smaller steps, such as the few that belong to the other side, are put into the rest."""

COLD = 20
"""How many times longer steps take, one event at a time."""

LISTED = 12
"""Modules that are named; the others are put together."""

_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>.*?)(?::\d+)?\)$")


def breakdown(stage: Stage, size: Size) -> Result:
    """Steps of an event under load, where many go in one message, and of one at a time.

    Hooks slow down what they measure. So each step has its share, and all together the time of a
    run without hooks.
    """
    columns: list[dict[str, dict[str, float]]] = []
    for events, pause_s in ((size.events, 0.0), (SINGLE_EVENTS, SINGLE_PAUSE_S)):
        plain = _run(stage, events, hooked=False, pause_s=pause_s)
        hooked = _run(stage, events, hooked=True, pause_s=pause_s)
        columns.append(
            {side: _scaled(hooked[side]["steps"], plain[side]["cpu_us"]) for side in SIDES}
        )
    figures: list[Figure] = []
    tables: dict[str, list[list[str]]] = {}
    for side in SIDES:
        rows = _side(columns[0][side], columns[1][side])
        tables[side] = [HEADS, *([label, *map(number, values)] for label, *values in rows)]
        for column, when in enumerate(HEADS[1:], 1):
            figures += [
                judged("breakdown", f"{side}: {row[0]}, {when}", float(row[column]), "µs")
                for row in rows
            ]
    for side, modules in _sample(stage, size.events * SAMPLED_EVENTS).items():
        figures += [
            judged("breakdown", f"{side}: samples in {module}", part * 100, "%")
            for module, part in modules
        ]
        parts = [[module, f"{part:.0%}"] for module, part in modules]
        tables[f"sampled {side}"] = [["module", "part"], *parts]
    return Result(figures, tables=tables)


def _scaled(steps: dict[str, float], whole: float) -> dict[str, float]:
    """The steps, scaled so that their sum is the whole."""
    factor = whole / sum(steps.values())
    return {label: value * factor for label, value in steps.items()}


def _side(load: dict[str, float], single: dict[str, float]) -> list[tuple[str, float, float]]:
    """The steps that count, in their order; the others, and the sum."""
    load, single = dict(load), dict(single)
    rows = []
    for label in dict.fromkeys(step.label for step in STEPS):
        values = load.pop(label, 0.0), single.pop(label, 0.0)
        if max(values[0], values[1] / COLD) >= SMALL_US:
            rows.append((label, *values))
        else:
            load[REST] += values[0]
            single[REST] += values[1]
    rows.append((REST, load[REST], single[REST]))
    return [*rows, ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def _run(
    stage: Stage, events: int, *, hooked: bool, pause_s: float = 0.0, **more: Any
) -> dict[str, Any]:
    receiver = stage.at(1, hooked=hooked)
    sender = stage.at(0, hooked=hooked, pause_s=pause_s)
    parts = ("charts.chart_receive", receiver), ("charts.chart_send", sender)
    with roles(*parts, **more) as (receiving, sending):
        receiving.ask(events)
        sending.tell(events)
        return {"receiver": receiving.hear(), "sender": sending.hear()}


def _sample(stage: Stage, events: int) -> dict[str, list[tuple[str, float]]]:
    """The modules that threads were in, with their part of the samples."""
    program = _py_spy()
    if program is None:
        print("py-spy is not installed: no samples are taken")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / side for side in ("receiver", "sender")]
        options = "record", "--format", "raw", "--rate", str(SAMPLES_A_SECOND), "--gil"
        launcher = [[program, *options, "-o", str(file), "--"] for file in files]
        try:
            _run(stage, events, hooked=False, launcher=launcher)
        except RuntimeError as error:
            print(f"no samples are taken: {error}")
            return {}
        return {file.name: _modules(file) for file in reversed(files) if file.exists()}


def _py_spy() -> str | None:
    """The path of the program, beside the interpreter or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _modules(file: Path) -> list[tuple[str, float]]:
    """Count samples by the module of the innermost function."""
    counts: Counter[str] = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        if not stack or "importlib" in stack:
            continue  # not Python code, or a process that is just starting
        match = _FRAME.match(stack.rpartition(";")[2])
        counts[match["file"] if match else "?"] += int(count)
    total = counts.total() or 1
    listed = [(name, count / total) for name, count in counts.most_common(LISTED)]
    return [*listed, ("others", max(0.0, 1.0 - sum(part for _, part in listed)))]
