"""Prints figures, stores them as JSON, and writes them into the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from .figure import Figure, Result, number

ORDER = (
    "round_trip",
    "dense",
    "tls",
    "throughput",
    "transmit",
    "idle",
    "start",
    "process",
    "peers",
    "trace",
    "isolation",
    "many",
    "fleet",
    "keys",
    "sizes",
    "pid",
    "breakdown",
)
"""Measurements in the order of the pages."""

TITLES = {
    "round_trip": "Round trip",
    "dense": "Round trip, 1 ms apart",
    "tls": "Round trip over TLS",
    "throughput": "Throughput",
    "transmit": "transmit, processor time of the caller",
    "idle": "Idle process",
    "start": "Start",
    "process": "Process",
    "peers": "Peers",
    "trace": "Trace",
    "isolation": "An event to a healthy peer at 1,000/s",
    "many": "Many charts in one process",
    "fleet": "Many processes at one broker",
    "keys": "Many routing keys",
    "sizes": "Bytes of an event",
}
"""Measurements of the main table."""


def _cells(figure: Figure) -> list[str]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    value = f"{number(figure.value)} {figure.unit}".strip()
    return [figure.name, value, ratio, figure.target, figure.verdict]


def show(name: str, result: Result, seconds: float) -> None:
    """Print the figures of a measurement."""
    print(f"\n{name} ({seconds:.0f} s)")
    for title, rows in result.tables.items():
        print(f"\n  {title}")
        for what, *cells in rows:
            print(f"  {what:40}" + "".join(f"{cell:>18}" for cell in cells))
    for figure in result.figures if not result.tables else ():
        what, value, ratio, target, verdict = _cells(figure)
        line = f"  {what:58} {value:>20} {ratio:>7}  {target:22} {verdict}"
        print(line.rstrip(), flush=True)


def show_verdicts(results: dict[str, Result]) -> None:
    """Print which targets are met and which are not."""
    judged = [one for result in results.values() for one in result.figures if one.verdict]
    missed = [one for one in judged if one.verdict != "met"]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} targets are met")
    for one in missed:
        shown = number(one.value if one.ratio is None else one.ratio)
        print(f"  missed: {one.part}, {one.name}: {shown}, {one.target}")


def keep(folder: Path, results: dict[str, Result], facts: dict[str, str]) -> None:
    """Write all figures as JSON."""
    figures = [
        {key: _rounded(value) for key, value in one._asdict().items() if value not in ("", None)}
        for result in results.values()
        for one in result.figures
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": facts, "figures": figures}, indent=1, ensure_ascii=False)
    (folder / "bench.json").write_text(text + "\n", encoding="utf-8")


def _rounded(value: str | float) -> str | float:
    """Round numbers to their significant digits."""
    return value if isinstance(value, str) else float(f"{value:.5g}")


def fill(page: Path, results: dict[str, Result], facts: dict[str, str]) -> None:
    """Write the figures between the marks of the page, so that nobody has to copy them."""
    if not page.exists():
        return
    text = page.read_text(encoding="utf-8")
    blocks = {"machine": _table([["what", "which"]] + [[key, facts[key]] for key in facts])}
    if set(TITLES) <= set(results):
        blocks["figures"] = _main_table(results)
    for result in results.values():
        blocks.update({name: _table(rows) for name, rows in result.tables.items()})
    for name, block in blocks.items():
        begin, end = f".. begin {name}\n", f".. end {name}\n"
        mark = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(mark.findall(text)) == 1, f"{page.name} has no place for {name}, or several"
        before, after = mark.split(text)
        text = f"{before}{begin}\n{block}\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def _main_table(results: dict[str, Result]) -> str:
    rows = [["figure", "value", "ratio", "target", ""]]
    for name, title in TITLES.items():
        rows += [
            [f"**{title}**: {what}", *rest]
            for what, *rest in (_cells(figure) for figure in results[name].figures)
        ]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a list-table of reStructuredText; the first is its head."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for index, cell in enumerate(row):
            lines.append(f"   {'* -' if index == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines) + "\n"
