"""Prints figures, stores them as JSON, and writes them into the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
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
    "counts",
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
        every = [figure for result in results.values() for figure in result.figures]
        blocks["summary"] = summary(every)
    for result in results.values():
        blocks.update({name: _table(rows) for name, rows in result.tables.items()})
    for name, block in blocks.items():
        begin, end = f".. begin {name}\n", f".. end {name}\n"
        mark = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(mark.findall(text)) == 1, f"{page.name} has no place for {name}, or several"
        before, after = mark.split(text)
        text = f"{before}{begin}\n{block}\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def summary(figures: Iterable[Figure]) -> str:
    """The five lines of the page that say the most; of all figures of a whole run."""
    by_name = {(one.part, one.name): one for one in figures}

    def value(part: str, name: str) -> float:
        return by_name[part, name].value

    def ratio(part: str, name: str) -> float:
        return by_name[part, name].ratio or 0.0

    lone, lone_ratio = value("round_trip", "charts, median"), ratio("round_trip", "charts, median")
    rate, rate_ratio = value("throughput", "charts"), ratio("throughput", "charts")
    once, loop = (
        value("transmit", f"to 1 broker, {how}") for how in ("one at a time", "in a loop")
    )
    fifty = value("transmit", "to 50 brokers, one at a time") / once
    idle = value("idle", "three networks, two brokers")
    memory, peer = value("peers", "memory with 1 peer"), value("peers", "memory for each peer")
    sick = ratio("isolation", "beside a broker with an alarm, 99th percentile")
    return f"""\
- **There and back in {lone:.1f} ms**: a chart asks and another answers, over two brokers.
  That is {lone_ratio:.1f} times what plain pika takes without charts, encryption and order.
- **{round(rate, -3):,.0f} events a second** from one chart to another, {rate_ratio:.1f} times the
  rate of plain pika, as events that wait go out together.
- **transmit takes {once / 1000:.2f} ms** of the caller's processor time for a lone event, and
  {loop:.0f} µs in a loop; to 50 brokers, {fifty:.1f} times as much.
- **A silent chart takes {idle:.2f} %** of a core, and a process {memory:.0f} MiB, with
  {peer:.2f} MiB more for each further broker.
- **A sick broker holds up nobody**: beside one with an alarm, the slowest hundredth of the events
  to the others takes {sick:.1f} times as long as without it.
"""


def _main_table(results: dict[str, Result]) -> str:
    rows = [["figure", "value", "ratio", "target", ""]]
    for name, title in TITLES.items():
        rows += [
            [f"**{title}**: {what}", *rest]
            for what, *rest in (_cells(figure) for figure in results[name].figures)
        ]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a csv-table of reStructuredText, a line each; the first is its head."""
    assert not any("|" in cell for row in rows for cell in row)
    lines = [".. csv-table::", "   :header-rows: 1", "   :delim: |", ""]
    lines += [f"   {' | '.join(row)}".rstrip() for row in rows]
    return "\n".join(lines) + "\n"
