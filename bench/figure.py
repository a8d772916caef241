"""A figure of the benchmark, with its target and whether it is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

ROUNDS_A_RUN = 4
"""Peers that take turns have so many blocks in each run."""


class Figure(NamedTuple):
    """One line of the table."""

    part: str
    """The measurement that it belongs to."""
    name: str
    value: float
    unit: str
    ratio: float | None = None
    """To what the target compares it with, in the same run."""
    target: str = ""
    verdict: str = ""


class Size(NamedTuple):
    """How much is measured."""

    events: int
    """Of a throughput measurement."""
    trips: int
    """Of a round-trip measurement."""
    runs: int
    """Of everything that varies; the median counts."""


class Result(NamedTuple):
    """What one measurement gives."""

    figures: list[Figure]
    details: dict[str, Any] = {}  # noqa: RUF012  # never changed
    """Further data for plots."""
    tables: dict[str, list[list[str]]] = {}  # noqa: RUF012
    """Many figures as a table: rows, of which the first has the heads."""


def judged(
    part: str,
    name: str,
    value: float,
    unit: str,
    *,
    to: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """A figure with its verdict.

    Args:
        part: the measurement.
        name: what it is of.
        value: the figure.
        unit: its unit.
        to: what it is compared with; then the target is one of the ratio, otherwise of the value.
        at_most: the target, for what should be small.
        at_least: the target, for what should be large.
    """
    ratio = None if to is None else value / to
    measure = value if ratio is None else ratio
    of = unit if ratio is None else "times"
    if at_most is not None:
        verdict = "met" if measure <= at_most else "missed"
        return Figure(part, name, value, unit, ratio, f"at most {at_most:g} {of}", verdict)
    if at_least is not None:
        verdict = "met" if measure >= at_least else "missed"
        return Figure(part, name, value, unit, ratio, f"at least {at_least:g} {of}", verdict)
    return Figure(part, name, value, unit, ratio)


def number(value: float) -> str:
    """A figure with about three digits."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def middle(values: Iterable[float]) -> float:
    """The median of the runs."""
    return float(statistics.median(list(values)))


def percentile_99(times: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much the second grows for each unit of the first, by least squares."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope
