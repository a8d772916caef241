"""Every example runs as a program, as its reader would run it; its exit code and output count."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

from ..helpers import complaints, processes_with, scaled, wait_until
from .terminal import on_terminal

EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = [sys.executable, str(EXAMPLES / "crossing" / "demo.py")]

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

TRACE_LINE = re.compile(r" \[\+t\] \[[-0-9]{10} [0-9:.]{15}\] \[(control|cars|people)\] (\S.*)")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A plain environment, with a folder of its own for temporary files."""
    return {**os.environ, "TMPDIR": str(tmp_path), "FORCE_COLOR": "", "NO_COLOR": ""}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaints(done.stderr) == ""
    return done.stdout


def assert_nothing_is_left(tmp_path: Path) -> None:
    wait_until(
        lambda: not processes_with(str(tmp_path)),
        10,
        lambda: f"the end of {processes_with(str(tmp_path))}",
    )
    assert list(tmp_path.iterdir()) == []


def test_the_demo_shows_all_charts_and_loses_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = run([*DEMO, "--seconds", "4"], environment)

    traced: dict[str, list[str]] = {"control": [], "cars": [], "people": []}
    for line in output.splitlines():
        if line.startswith(" [+t]"):
            match = TRACE_LINE.fullmatch(line)
            assert match, line
            traced[match[1]].append(match[2])
    assert all("e->start_at() top->dark" in lines for lines in traced.values())
    assert "e->BUTTON() yielding->stopping" in traced["control"]
    assert "e->STOP() green->amber" in traced["cars"]
    assert "# a jogger presses the button" in traced["people"]

    rows = re.findall(r"^    (control|cars|people) +(\d+) +(\d+) +(\d+)$", output, re.MULTILINE)
    transmitted = {name: int(count) for name, count, _, _ in rows}
    assert {name: int(count) for name, _, count, _ in rows} == {
        name: sum(transmitted.values()) - transmitted[name] for name in traced
    }
    assert all(count > 0 for count in transmitted.values())
    assert {lost for _, _, _, lost in rows} == {"0"}
    assert "\x1b" not in output
    assert_nothing_is_left(tmp_path)


def test_the_demo_is_in_colour_on_a_terminal_and_ends_on_ctrl_c(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with on_terminal(DEMO, environment) as demo:
        demo.read_until("\x1b[35mpeople\x1b[0m] e->LIGHTS_ON() dark->red_man")
        assert "[\x1b[34mcontrol\x1b[0m] e->SWITCH_ON()" in demo.output
        demo.press(b"\x03")
        demo.read_until(None)
        assert demo.process.wait(scaled(25)) == 130
    assert "Traceback" not in demo.output
    assert_nothing_is_left(tmp_path)


def test_the_demo_is_plain_with_no_color_and_ends_on_sigterm(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["NO_COLOR"] = "1"
    with on_terminal(DEMO, environment) as demo:
        demo.read_until("[people] e->LIGHTS_ON() dark->red_man")
        assert "\x1b" not in demo.output
        demo.process.terminate()
        demo.read_until(None)
        assert demo.process.wait(scaled(25)) == 128 + signal.SIGTERM
    assert "Traceback" not in demo.output
    assert_nothing_is_left(tmp_path)


def test_the_demo_can_be_ended_while_its_brokers_boot(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with on_terminal(DEMO, environment) as demo:
        wait_until(lambda: [*tmp_path.glob("miros-rabbitmq-*/**/*.log")], 10, "a log of a broker")
        demo.press(b"\x03")
        demo.read_until(None)
        assert demo.process.wait(scaled(30)) == 130
    assert "Traceback" not in demo.output
    assert_nothing_is_left(tmp_path)


def test_nothing_of_the_demo_outlives_it_when_it_is_killed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with on_terminal(DEMO, environment) as demo:
        demo.read_until("] e->LIGHTS_ON()")
        demo.process.kill()
        demo.read_until(None)
    assert_nothing_is_left(tmp_path)


def test_the_active_objects_meet(environment: dict[str, str], tmp_path: Path) -> None:
    output = run([sys.executable, str(EXAMPLES / "active_object.py")], environment)
    assert {"fan: was welcomed by lamp", "lamp: was welcomed by fan"} <= set(output.splitlines())
    assert_nothing_is_left(tmp_path)


def test_the_factories_heat_the_room(environment: dict[str, str], tmp_path: Path) -> None:
    output = run([sys.executable, str(EXAMPLES / "factory.py")], environment)
    switched = [line.rpartition(": ")[2] for line in output.splitlines()]
    assert switched == ["on", "off", "on", "off"]
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("program", "options_a", "options_b", "expected"),
    [
        ("active_object.py", ["--name", "fan"], ["--name", "hob"], "fan: was welcomed by hob"),
        ("factory.py", ["--role", "heater"], ["--role", "room"], "in the kitchen: off"),
    ],
)
def test_the_examples_run_at_given_brokers(
    program: str,
    options_a: list[str],
    options_b: list[str],
    expected: str,
    environment: dict[str, str],
    broker_a: LocalBroker,
    broker_b: LocalBroker,
) -> None:
    environment.update(
        RABBIT_USER=broker_a.user,
        RABBIT_PASSWORD=broker_a.password,
        MESH_KEY=Fernet.generate_key().decode(),
    )
    place_a, place_b = str(broker_a.address), str(broker_b.address)
    command = [sys.executable, str(EXAMPLES / program), "--timeout", f"{scaled(20):g}"]
    other = subprocess.Popen(
        [*command, *options_b, "--host", place_b, "--addresses", place_a],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        output = run([*command, *options_a, "--host", place_a, "--addresses", place_b], environment)
    finally:
        other.terminate()
        other.wait()
    assert expected in output
    assert " [+t] [" in output
