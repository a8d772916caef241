"""The statecharts of all programs in ``examples/``, read from their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .. import sources, statechart
from ..canvas import Canvas

EXAMPLES = Path(__file__).parents[3] / "examples"


def charts() -> Iterator[tuple[str, Path, str, statechart.Statechart]]:
    """The name of each picture, its program, the name of the chart in it, and the statechart."""
    for path in sorted(EXAMPLES.rglob("*.py")):
        for name, chart in sources.charts_of(path).items():
            stem = "_".join(path.relative_to(EXAMPLES).with_suffix("").parts)
            short = stem if stem.endswith(f"_{name}") or stem == name else f"{stem}_{name}"
            yield f"chart_{short}", path, name, chart


def _draw(path: Path, name: str, chart: statechart.Statechart) -> Canvas:
    program = f"examples/{path.relative_to(EXAMPLES).as_posix()}"
    says = [
        f"{state.name}{f' in {state.parent}' if state.parent else ''}" for state in chart.states
    ]
    leads = [f"{one.source} to {one.target} at {one.signal}" for one in chart.transitions]
    text = f"States: {', '.join(says)}."
    if leads:
        text += f" Transitions: {', '.join(leads)}."
    return statechart.draw(chart, f"The statechart {name} of {program}", text)


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    picture: partial(_draw, path, name, chart) for picture, path, name, chart in charts()
}
