"""The test files of "docs/testing.rst" run under pytest, and its files for CI can be read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

from ..helpers import scaled
from .documents import ROOT, blocks_of, other_blocks_of, programs_of

PAGE = "docs/testing.rst"


@pytest.mark.usefixtures("rabbitmq_installed")
def test_the_test_files_of_the_page_pass(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    for name, block in programs_of(PAGE).items():
        (tests / name).write_text(block.code, encoding="utf-8")
    assert sorted(path.name for path in tests.iterdir()) == [
        "conftest.py",
        "test_door.py",
        "test_fan.py",
        "test_greetings.py",
    ]
    shutil.copy(ROOT / "examples" / "team" / "chart_bench.py", tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tests,
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def pieces(*words: str) -> str:
    """The block of the page, that is no program, with these words."""
    (block,) = [
        one.code
        for one in blocks_of(PAGE)
        if not one.program and all(word in one.code for word in words)
    ]
    return block


def test_wait_until_returns_when_it_is_true_and_fails_when_it_stays_false() -> None:
    looks: list[int] = []

    def stats() -> Any:
        looks.append(1)
        return SimpleNamespace(mesh=SimpleNamespace(confirmed=len(looks) - 1))

    names: dict[str, Any] = {"chart": SimpleNamespace(nets=SimpleNamespace(stats=stats))}
    exec(pieces("def wait_until"), names)  # noqa: S102  # our own text
    assert len(looks) == 2
    with pytest.raises(AssertionError, match="in time"):
        names["wait_until"](lambda: False, timeout=0.0)


@spy_on
def listening(chart: Any, e: Event) -> Any:
    """The state of a chart that only listens, as on the page."""
    chart.temp.fun = chart.top
    return return_status.SUPER


@pytest.mark.usefixtures("rabbitmq_installed")
def test_a_chart_goes_on_when_a_node_of_its_cluster_is_killed() -> None:
    code = pieces("joins=first")
    for number in (2, 3, 4):  # of its own: others may run the tests, too
        code = code.replace(f"127.0.0.{number}", f"127.{os.getpid() % 200 + 20}.9.{number}")
    names: dict[str, Any] = {
        "KEY": Fernet.generate_key(),
        "TIMEOUT_S": scaled(30),
        "LocalBroker": LocalBroker,
        "NetworkedActiveObject": NetworkedActiveObject,
        "listening": listening,
    }
    exec(code, names)  # noqa: S102
    assert not names["third"].is_running
    assert names["fan"].failure is None


def test_the_group_of_a_worker_is_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[str] = []
    monkeypatch.setattr(pytest, "mark", SimpleNamespace(xdist_group=marks.append))
    exec(pieces("xdist_group"), {})  # noqa: S102
    assert marks == ["broker"]


@pytest.mark.parametrize(
    ("is_ci", "outcome"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)]
)
def test_a_missing_rabbitmq_skips_at_home_and_fails_in_ci(
    is_ci: bool, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    exec(pieces("rabbitmq_installed"), names)  # noqa: S102
    fixture = names["rabbitmq_installed"].__wrapped__
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/sbin/rabbitmq-server")
    fixture()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.delenv("CI", raising=False)
    if is_ci:
        monkeypatch.setenv("CI", "true")
    with pytest.raises(outcome, match="not installed"):
        fixture()


def test_both_files_for_ci_do_the_same() -> None:
    """Their syntax was checked against the schemas of both services."""
    github, gitlab = other_blocks_of(PAGE, "yaml")
    commands = re.findall(r"^ +- run: (.*)$", github, re.MULTILINE)
    assert commands == re.findall(r"^ +- (.*)$", gitlab, re.MULTILINE)
    assert "rabbitmq-server" in commands[1]
    assert re.findall(r"(?:container|image): (.*)", github + gitlab) == ["debian:13"] * 2
