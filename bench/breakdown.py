"""Where the time of one event goes, at its sender and at its receiver.

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

from .figure import Figure, Result, Size, judged
from .roles.hooks import REST, STEPS
from .stage import Stage, roles

SIDES = ("sender", "receiver")

SINGLE_EVENTS, SINGLE_PAUSE_S = 500, 0.005

SAMPLES_A_SECOND = 400
SAMPLED_EVENTS = 4
"""Times as many events as of a throughput measurement: some seconds."""

LISTED = 12
"""Modules that are named; the others are put together."""

_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>.*?)(?::\d+)?\)$")


def breakdown(stage: Stage, size: Size) -> Result:
    """Steps of an event under load, where many go in one message, and of one at a time."""
    plain = _run(stage, size.events, hooked=False)
    load = _run(stage, size.events, hooked=True)
    single = _run(stage, SINGLE_EVENTS, hooked=True, pause_s=SINGLE_PAUSE_S)
    labels = [*dict.fromkeys(step.label for step in STEPS), REST]
    figures: list[Figure] = []
    steps: dict[str, list[tuple[str, float, float]]] = {}
    for side in SIDES:
        with_load, alone = load[side]["steps"], single[side]["steps"]
        steps[side] = [
            (label, with_load.get(label, 0.0), alone.get(label, 0.0))
            for label in labels
            if label in with_load or label in alone
        ]
        figures += [
            judged("breakdown", f"{side}: {label}, under load", value, "µs")
            for label, value, _ in steps[side]
        ]
        figures += [
            judged("breakdown", f"{side}: {label}, one at a time", value, "µs")
            for label, _, value in steps[side]
        ]
        whole = plain[side]["cpu_us"]
        figures.append(
            judged("breakdown", f"{side}: process without hooks, under load", whole, "µs")
        )
    sampled = _sample(stage, size.events * SAMPLED_EVENTS)
    for side, modules in sampled.items():
        figures += [
            judged("breakdown", f"{side}: samples in {module}", part * 100, "%")
            for module, part in modules
        ]
    return Result(figures, {"steps": steps, "sampled": sampled})


def _run(
    stage: Stage, events: int, *, hooked: bool, pause_s: float = 0.0, **more: Any
) -> dict[str, Any]:
    receiver = stage.at(1, count=events, hooked=hooked)
    sender = stage.at(0, count=events, hooked=hooked, pause_s=pause_s)
    parts = ("charts.chart_receive", receiver), ("charts.chart_send", sender)
    with roles(*parts, **more) as (receiving, sending):
        sending.tell("go")
        return {"receiver": receiving.hear(), "sender": sending.hear()}


def _sample(stage: Stage, events: int) -> dict[str, list[tuple[str, float]]]:
    """The modules that threads were in, with their part of the samples."""
    program = _py_spy()
    if program is None:
        print("py-spy is not installed: no samples are taken")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / side for side in ("receiver", "sender")]
        options = "record", "--format", "raw", "--rate", str(SAMPLES_A_SECOND), "--nonblocking"
        launcher = [[program, *options, "-o", str(file), "--"] for file in files]
        try:
            _run(stage, events, hooked=False, launcher=launcher)
        except RuntimeError as error:
            print(f"no samples are taken: {error}")
            return {}
        return {file.name: _modules(file) for file in reversed(files) if file.exists()}


def _py_spy() -> str | None:
    """The program, beside the interpreter or elsewhere."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _modules(file: Path) -> list[tuple[str, float]]:
    """Count samples by the module of the innermost function."""
    counts: Counter[str] = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        if "importlib" in stack:
            continue  # a process that starts
        match = _FRAME.match(stack.rpartition(";")[2])
        counts[match["file"] if match else "?"] += int(count)
    total = counts.total() or 1
    listed = [(name, count / total) for name, count in counts.most_common(LISTED)]
    return [*listed, ("others", max(0.0, 1.0 - sum(part for _, part in listed)))]
