"""Plots of the figures; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter

from .figure import Result
from .traffic import KINDS

COLOURS = {
    "raw": "#7f7f7f",
    "floor": "#17becf",
    "chart": "#1f77b4",
    "aio": "#ff7f0e",
    "blocking": "#9467bd",
    "alone": "#2ca02c",
}
"""The same colour for the same peer in every plot."""

OURS = COLOURS["chart"]

DPI = 110

PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")
"""Write numbers out, not as powers of ten."""


def keep(folder: Path, results: dict[str, Result]) -> None:
    """Draw what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    if "round_trip" in results:
        _save(_round_trip(results["round_trip"].details), folder / "round_trip.png")
    if "throughput" in results:
        _save(_throughput(results["throughput"].details), folder / "throughput.png")
    if "peers" in results:
        _save(_peers(results["peers"].details["steps"]), folder / "peers.png")
    if "pid" in results:
        for kind, file in (("events", "pid.png"), ("snoop lines", "pid_snoop.png")):
            _save(_pid(results["pid"].details["series"][kind]), folder / file)


def _save(picture: Picture, file: Path) -> None:
    # Without metadata, which would name versions and times.
    picture.savefig(file, dpi=DPI, metadata={"Software": None})


def _round_trip(details: dict[str, Any]) -> Picture:
    picture = Picture(figsize=(6.4, 3.2), layout="constrained")
    axes = picture.subplots()
    labels, values, colours = [], [], []
    for key, name in (("median_ms", "median"), ("p99_ms", "99th percentile")):
        for kind, value in details[key].items():
            labels.append(f"{KINDS[kind]}, {name}")
            values.append(value)
            colours.append(COLOURS[kind])
    _bars(axes, labels, values, colours, "{:.2f}")
    axes.set_xlabel("round trip through two brokers, ms (less is better)")
    return picture


def _throughput(details: dict[str, Any]) -> Picture:
    picture = Picture(figsize=(6.4, 2.6), layout="constrained")
    axes = picture.subplots()
    rates = details["events_per_s"]
    labels = [KINDS[kind] for kind in rates]
    _bars(axes, labels, list(rates.values()), [COLOURS[kind] for kind in rates], "{:,.0f}")
    axes.set_xlabel("events a second, from the first sent to the last handled (more is better)")
    return picture


def _bars(axes: Any, labels: list[str], values: list[float], colours: list[str], form: str) -> None:
    bars = axes.barh(range(len(values)), values, color=colours, height=0.7)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.xaxis.set_major_formatter(PLAIN)


def _peers(steps: list[dict[str, float]]) -> Picture:
    picture = Picture(figsize=(6.4, 2.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    count = [step["peers"] for step in steps]
    left.plot(count, [step["memory_mib"] for step in steps], "o-", color=OURS)
    left.set(xlabel="peers", ylabel="memory of the process, MiB")
    right.plot(count, [step["broadcast_s"] * 1e3 for step in steps], "o-", color=OURS)
    right.set(xlabel="peers", ylabel="one event confirmed by all, ms")
    for axes in (left, right):
        axes.set(xlim=(0, None), ylim=(0, axes.get_ylim()[1] * 1.1))
    return picture


def _pid(series: dict[str, Any]) -> Picture:
    picture = Picture(figsize=(7.2, 5.6), layout="constrained")
    depth, tempo, batch = picture.subplots(3, 1, sharex=True)
    depth.plot(*_columns(series["depth"]), color=OURS, lw=0.8)
    depth.set_ylabel("queue's depth,\nevents")
    depth.set_yscale("symlog", linthresh=10)
    at, seconds = _columns(series["tempo"])
    tempo.plot(at, [one * 1e3 for one in seconds], color=OURS, lw=0.8)
    tempo.set_ylabel("tempo,\nms")
    tempo.set_yscale("log")
    batch.plot(*_columns(series["batches"]), ".", color=OURS, ms=2)
    batch.set_ylabel("batch,\nevents in a message")
    batch.set_yscale("log")
    batch.set_xlabel("time, s")
    depth.set_ylim(0, max(value for _, value in series["depth"]) * 2 + 1)
    tempo.set_ylim(0.5, 200)
    batch.set_ylim(0.7, 800)
    for axes in (depth, tempo, batch):
        axes.yaxis.set_major_formatter(PLAIN)
    names = ("silence", "5,000 at once,\nsilence", "500/s", "5,000/s, silence")
    for begin, name in zip(series["marks"], names, strict=True):
        for axes in (depth, tempo, batch):
            axes.axvline(begin, color="#cccccc", lw=0.8, zorder=0)
        depth.annotate(
            name,
            (begin, 1.02),
            xycoords=("data", "axes fraction"),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=8,
            va="bottom",
        )
    return picture


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Pairs as two lists."""
    return [point[0] for point in points], [point[1] for point in points]
