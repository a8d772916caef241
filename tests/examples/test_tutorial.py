"""The tutorial's programs do what "docs/tutorial.rst" says that they print; its tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..helpers import complaints, scaled
from .documents import ROOT, other_blocks_of

PAGE = "docs/tutorial.rst"
TEAM = ROOT / "examples" / "team"
STEPS = sorted(TEAM.glob("step*.py"))

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

LINE = re.compile(r" ?(?:\[\+t\] )?\[[-0-9]{10} [0-9:.]{15}\] (\[(?:base|wren|finch)\] \S.*)")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(tmp_path),
        "FORCE_COLOR": "",
        "NO_COLOR": "1",
    }


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=TEAM,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )


def shown(command: str) -> str:
    """What the page shows after a command."""
    for block in other_blocks_of(PAGE, "console"):
        first, _, printed = block.partition("\n")
        if first == f"$ {command}":
            return printed
    raise AssertionError(f"{PAGE} does not show {command}")


def comparable(printed: str) -> list[str]:
    """Lines without times. Robots that hear the same event answer in any order."""
    return sorted(LINE.sub(r"\1", line).rstrip() for line in printed.splitlines() if line.strip())


@pytest.mark.parametrize("program", STEPS, ids=lambda path: str(path.stem))
def test_a_step_prints_what_the_page_says(program: Path, environment: dict[str, str]) -> None:
    done = run(environment, program.name)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert comparable(done.stdout) == comparable(shown(f"python {program.name}"))


def test_the_whole_team_does_its_orders_shows_its_trace_and_keeps_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "team.log"
    done = run(environment, "team.py", "--log", str(log))
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "8 orders, 8 done, 0 events lost"
    traced = [match[1] for match in map(LINE.fullmatch, lines) if match]
    for line in (
        "[base] e->HERE() gathering->calm",
        "[wren] e->ORDER() free->driving",
        "[finch] e->LOADED() loading->free",
        "[base] # a cat is in the hall",
    ):
        assert line in traced
    robots = [line for line in traced if "start_at" in line and "base" not in line]
    assert len(robots) == len(set(robots)) == 2
    # The log hears the base and both robots, too.
    assert {"[base] e->HERE() gathering->calm", "[wren] e->ORDER() free->driving"} <= {
        match[1] for match in map(LINE.fullmatch, log.read_text().splitlines()) if match
    }


def test_the_team_does_all_orders_though_the_robots_broker_is_restarted(
    environment: dict[str, str],
) -> None:
    done = run(environment, "team.py", "--restart", "--orders", "12")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "12 orders, 12 done, 0 events lost"
    assert "is being stopped or restarted" in done.stderr
    assert "connected again" in done.stderr


def test_the_tests_of_the_tutorial_pass(environment: dict[str, str]) -> None:
    done = run(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout
