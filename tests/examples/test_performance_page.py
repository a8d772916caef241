"""The page on performance has the figures of the last whole run of the benchmark, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bench import report
from bench.figure import Figure, Result

from .documents import ROOT

PAGE = ROOT / "docs/performance.rst"
RUN = json.loads((ROOT / "docs/bench.json").read_text(encoding="utf-8"))


def figures() -> list[Figure]:
    return [Figure(**{"unit": "", **one}) for one in RUN["figures"]]


def block(name: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f".. begin {name}\n\n")[2].partition(f"\n.. end {name}\n")[0]


def test_the_page_begins_with_five_lines_of_the_last_run() -> None:
    assert block("summary") == report.summary(figures())
    assert block("summary").count("\n- ") == 4
    text = PAGE.read_text(encoding="utf-8")
    assert text.index("begin summary") < text.index(".. figure::") < text.index("begin figures")


def test_the_page_has_each_figure_of_the_last_run() -> None:
    rows = [line.strip() for line in block("figures").splitlines()]
    for one in figures():
        if one.part in report.TITLES and one.part not in ("many", "fleet", "keys"):
            begin = f"**{report.TITLES[one.part]}**: {one.name} | "
            assert len([row for row in rows if row.startswith(begin)]) == 1, begin


def test_a_run_fills_the_page_without_changing_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "performance.rst"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    results: dict[str, Result] = {name: Result([]) for name in report.TITLES}
    for one in figures():
        if one.part in results:
            results[one.part].figures.append(one)
    report.fill(page, results, RUN["machine"])
    before, after = PAGE.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    marks = re.compile(r"\.\. begin (\w+)\n.*?\.\. end \1\n", re.DOTALL)
    assert marks.sub("", after) == marks.sub("", before)
    assert after.count(".. csv-table::") == before.count(".. csv-table::")
