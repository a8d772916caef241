"""The team of the tutorial on two machines: the base on one, the robots on the other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from ..helpers import scaled
from .netns import Lan, Namespace, lan_of

TEAM = Path(__file__).parents[2] / "examples" / "team"

PROGRAM = """
import runpy, sys
sys.argv = {argv!r}
sys.path.insert(0, {folder!r})
runpy.run_path("team.py", run_name="__main__")
"""

BROKER = """
import sys
from miros_rabbitmq import LocalBroker
with LocalBroker("{host}", 5672, user="robot", password="rabbit"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBIT_USER", "robot")
    monkeypatch.setenv("RABBIT_PASSWORD", "rabbit")
    monkeypatch.setenv("MESH_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def run(machine: Namespace, *arguments: str) -> subprocess.Popen[str]:
    argv = ["team.py", *arguments]
    return machine.start(PROGRAM.format(argv=argv, folder=str(TEAM)), folder=TEAM)


@pytest.mark.usefixtures("rabbitmq_installed", "environment")
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_the_team_does_its_orders_on_two_machines(named: bool) -> None:
    with lan_of("192.168.1.0/24") as lan:
        printed = output_of_base(lan, named=named)
    lines = printed.splitlines()
    assert lines[-1] == "4 orders, 4 done, 0 events lost"
    for line in ("[base] e->HERE() gathering->calm", "[wren] e->ORDER() free->driving"):
        assert [one for one in lines if one.endswith(line)], printed


def output_of_base(lan: Lan, *, named: bool) -> str:
    """What the base prints; the robots start first, and their broker last."""
    one, two = lan.host(71), lan.host(72)
    first, second = lan.address(71), lan.address(72)
    of_base = ["--host", first, *(["--addresses", second] if named else [])]
    of_robots = ["--host", second, *(["--addresses", first] if named else [])]
    robots = [run(two, name, *of_robots) for name in ("wren", "finch")]
    for machine, host in ((one, first), (two, second)):
        broker = machine.start(BROKER.format(host=host))
        assert broker.stdout is not None
        assert broker.stdout.readline() == "ready\n", broker.communicate()
    base = run(one, "base", "--orders", "4", *of_base)
    printed, complaints = base.communicate(timeout=scaled(90))
    assert (base.returncode, complaints) == (0, ""), printed
    for robot in robots:
        robot.terminate()
        printed_there, complaints = robot.communicate(timeout=scaled(25))
        assert robot.returncode == 0, complaints
        assert "[base] e->HERE() gathering->calm" in printed_there
    return printed
