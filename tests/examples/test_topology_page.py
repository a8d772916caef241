"""The page on topologies: its code, its reckoning, and that the script that has measured runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

import miros_rabbitmq
from bench.topology import COLUMNS, measure, reckon

from .documents import ROOT
from .test_documents import as_if_there, run

__all__ = ["as_if_there"]  # a fixture

PAGE = "docs/topology.rst"


def rows(columns: int, *, until: str = "") -> list[list[str]]:
    """The rows of the tables with so many columns, but for their heads."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    if until:
        text = text[: text.index(until)]
    cells = r"   \* - (.*)\n" + r"     - (.*)\n" * (columns - 1)
    found = re.findall(cells + r"(?!     - )", text)
    return [list(row) for row in found if row[0].replace(",", "").isdigit()]


def number(text: str) -> float:
    return float(text.replace(",", "").split()[0])


def test_the_python_in_the_page_runs(as_if_there: dict[str, Any]) -> None:
    run(PAGE, {**as_if_there, "NetworkedActiveObject": miros_rabbitmq.NetworkedActiveObject})


def test_the_reckoned_table_is_what_the_formula_gives() -> None:
    kinds = {"for each host": 0, "one": 1, "a cluster": 3, "ten": 10}
    table = [row for row in rows(7) if row[1] in kinds]
    assert len(table) == 20
    for nodes, kind, connections, of_one, memory, messages, idle in table:
        count = int(number(nodes))
        costs = reckon(count, kinds[kind] or count, cluster=kind == "a cluster")
        assert number(connections) == costs.connections
        assert number(of_one) == costs.broker_connections
        mib = number(memory) * (1024 if "GiB" in memory else 1)
        assert mib == pytest.approx(costs.broker_mib, rel=0.1)
        assert number(messages) == costs.broker_messages
        assert number(idle) == pytest.approx(costs.idle / 1000, rel=0.1)


def test_the_formula_fits_what_was_measured() -> None:
    """What it says of connections is exact; of memory and of the traffic at rest it is near."""
    one_or_own = rows(7, until="\nA cluster of three:\n")
    assert len(one_or_own) >= 9
    measured = [row for row in rows(7, until="\nWhat follows from it") if row not in one_or_own]
    assert len(measured) >= 4
    for row in one_or_own + measured:
        nodes, connections, of_one, idle, _, memory, _ = row
        count = int(number(nodes))
        if row in one_or_own:
            kinds = [reckon(count, brokers) for brokers in (1, count)]
        else:
            kinds = [reckon(count, 3, cluster=True)]
        fits = [kind for kind in kinds if kind.connections == number(connections)]
        assert fits
        assert number(of_one) == fits[0].broker_connections
        assert number(memory) == pytest.approx(fits[0].broker_mib, rel=0.1)
        assert number(idle) == pytest.approx(fits[0].idle, rel=0.25)


@pytest.mark.usefixtures("rabbitmq_installed")
def test_the_script_measures() -> None:
    row = dict(zip(COLUMNS, measure("shared", 2, events=5, settle_s=0.5), strict=True))
    assert row["nodes"] == "2"
    assert row["connections"] == "4"
    assert number(row["B an event"]) > 100
