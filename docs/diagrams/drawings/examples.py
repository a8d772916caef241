"""The statecharts of all programs in ``examples/`` and of some on pages, read from the sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .. import sources, statechart
from ..canvas import Canvas

EXAMPLES = Path(__file__).parents[3] / "examples"
DOCS = Path(__file__).parents[2]

ON_PAGES = {"chart_kinds_heater": ("kinds", "flat.py", "heater")}
"""Pictures of charts whose source is on a page: the page, the program, the chart."""


def charts() -> Iterator[tuple[str, Path, str, statechart.Statechart]]:
    """The name of each picture, its program, the name of the chart in it, and the statechart."""
    for path in sorted(EXAMPLES.rglob("*.py")):
        for name, chart in sources.charts_of(path).items():
            stem = "_".join(path.relative_to(EXAMPLES).with_suffix("").parts)
            short = stem if stem.endswith(f"_{name}") or stem == name else f"{stem}_{name}"
            yield f"chart_{short}", path, name, chart


def _draw(program: str, name: str, chart: statechart.Statechart) -> Canvas:
    says = [
        f"{state.name}{f' in {state.parent}' if state.parent else ''}" for state in chart.states
    ]
    leads = [f"{one.source} to {one.target} at {one.signal}" for one in chart.transitions]
    text = f"States: {', '.join(says)}."
    if leads:
        text += f" Transitions: {', '.join(leads)}."
    return statechart.draw(chart, f"The statechart {name} of {program}", text)


def _drawings() -> Iterator[tuple[str, Callable[[], Canvas]]]:
    for picture, path, name, chart in charts():
        program = f"examples/{path.relative_to(EXAMPLES).as_posix()}"
        yield picture, partial(_draw, program, name, chart)
    for picture, (page, program, name) in ON_PAGES.items():
        chart = sources.charts_on(DOCS / f"{page}.rst", program)[name]
        yield picture, partial(_draw, f"{program} in docs/{page}.rst", name, chart)


DRAWINGS: dict[str, Callable[[], Canvas]] = dict(_drawings())
