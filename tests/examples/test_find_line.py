"""A pasted line of a log finds its entry, by the script of the site."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from ..helpers import scaled
from .documents import ROOT
from .messages import entries_of

SCRIPT = ROOT / "docs/_static/find_line.js"
ENTRIES = entries_of("docs/messages.rst")

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node, which runs the script")


def ask(program: str, data: Any) -> Any:
    """Run some JavaScript that has the script as ``FindLine`` and ``data``."""
    assert NODE is not None
    code = f"""
        const FindLine = require({json.dumps(str(SCRIPT))});
        const data = JSON.parse(require("fs").readFileSync(0, "utf-8"));
        console.log(JSON.stringify({program}));
    """
    done = subprocess.run(
        [NODE, "-e", code],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    return json.loads(done.stdout)


def as_logged(entry: str) -> str:
    """A line with other names, addresses and numbers, and what a handler of logging puts before."""
    for ours, theirs in (("lamp", "walker"), ("'robot'", "'alice'"), ("switch", "left_arm")):
        entry = entry.replace(ours, theirs)
    entry = entry.replace("192.168.1.71", "10.20.30.40")
    entry = re.sub(r"\d{2,}", "17", entry)
    return f"2027-01-02 03:04:05,678 WARNING miros_rabbitmq.nets.node: {entry}"


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z][a-z_]+", text.lower()))


def test_each_line_finds_its_entry() -> None:
    long = [entry for entry in dict.fromkeys(ENTRIES) if len(words(entry)) > 4]
    found = ask(
        "data.lines.map((line) => FindLine.best(line, data.entries))",
        {"lines": [as_logged(entry) for entry in long], "entries": ENTRIES},
    )
    missed = [
        entry
        for entry, numbers in zip(long, found, strict=True)
        if entry not in [ENTRIES[number] for number in numbers]
    ]
    assert len(long) > 350
    assert not missed, "\n".join(missed)


def test_a_line_of_two_parts_finds_both() -> None:
    line = (
        "walker runs without its broker at 10.0.0.9:5672, and goes on trying to connect: nothing "
        "listens at 10.0.0.9:5672: start RabbitMQ there (as root: systemctl start "
        "rabbitmq-server), or "
        "correct the host or the port; rabbitmq-diagnostics listeners, as root, shows on the "
        "broker "
        "where it listens"
    )
    numbers = ask("FindLine.best(data.line, data.entries)", {"line": line, "entries": ENTRIES})
    found = [ENTRIES[number] for number in numbers]
    assert any("runs without its broker" in entry for entry in found)
    assert any(entry.startswith("nothing listens at") for entry in found)


def test_what_is_no_line_of_ours_finds_nothing() -> None:
    line = "Segmentation fault: core dumped while compiling shaders"
    assert ask("FindLine.best(data.line, data.entries)", {"line": line, "entries": ENTRIES}) == []
