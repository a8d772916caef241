"""The examples with one thing each run as their readers would run them."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

from ..helpers import scaled, wait_until
from .test_examples import EXAMPLES, assert_nothing_is_left, run

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

SECRETS = ("RABBIT_USER", "RABBIT_PASSWORD", "MESH_KEY")
LOCAL = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.4:5673"
"""Where no other run of the tests has a broker."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A plain environment, with a folder of its own for temporary files."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES.parent),
        "TMPDIR": str(temporary),
        "FORCE_COLOR": "",
        "NO_COLOR": "",
    }


@pytest.fixture
def with_secrets(environment: dict[str, str], broker_a: LocalBroker) -> dict[str, str]:
    """The environment for the brokers of the tests."""
    values = (broker_a.user, broker_a.password, Fernet.generate_key().decode())
    return {**environment, **dict(zip(SECRETS, values, strict=True))}


@contextmanager
def program(
    folder: Path, environment: dict[str, str], *command: str, reads: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """An example that runs beside the test, in a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / command[0]), *command[1:]],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return line.rstrip("\n")


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    lines = [next_line(process)]
    while lines[-1] != last:
        lines.append(next_line(process))
    return lines


def enter(process: subprocess.Popen[str], text: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    _, complaints = process.communicate(timeout=scaled(30))
    assert (process.returncode, complaints) == (0, "")


def test_a_switch_in_one_terminal_switches_the_lamp_in_another(
    environment: dict[str, str], tmp_path: Path
) -> None:
    lamp_program, switch_program = "two_terminals/lamp.py", "two_terminals/switch.py"
    access = tmp_path / "lamp.json"
    with program(tmp_path, environment, lamp_program, "--private", LOCAL) as lamp:
        assert "lamp: off" in lines_until(
            lamp, "lamp: now start switch.py in another terminal, in this folder"
        )
        assert access.stat().st_mode & 0o077 == 0
        with program(tmp_path, environment, switch_program, reads=True) as switch:
            first = "switch: the lamp is off; Enter switches it, q and Enter end this"
            assert next_line(switch) == first
            for how in ("dim", "bright", "off"):
                enter(switch)
                lines_until(switch, f"switch: the lamp is {how}")
                lines_until(lamp, f"lamp: {how}")
            enter(switch, "q")
            assert switch.wait(scaled(30)) == 0
        end(lamp, signal.SIGTERM)
    assert not access.exists()
    assert not list((tmp_path / "tmp").iterdir())


def test_a_switch_without_a_lamp_says_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with program(tmp_path, environment, "two_terminals/switch.py") as switch:
        _, complaints = switch.communicate(timeout=scaled(30))
    assert "start lamp.py first" in complaints
    assert switch.returncode == 1


def test_lamp_and_switch_work_at_two_brokers(
    with_secrets: dict[str, str], tmp_path: Path, broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    a, b = str(broker_a.address), str(broker_b.address)
    at_a, at_b = ("--host", a, "--addresses", b), ("--host", b, "--addresses", a)
    with (
        program(tmp_path, with_secrets, "two_terminals/switch.py", *at_b, reads=True) as switch,
        program(tmp_path, with_secrets, "two_terminals/lamp.py", *at_a) as lamp,
    ):
        assert next_line(switch).startswith("switch: the lamp is off")
        enter(switch)
        lines_until(lamp, "lamp: dim")
        lines_until(switch, "switch: the lamp is dim")
        for process in (switch, lamp):
            end(process, signal.SIGINT)


@pytest.mark.parametrize(
    "command",
    [
        ["two_terminals/lamp.py"],
        ["two_terminals/switch.py"],
        ["snoop_logger.py"],
        ["shared_broker.py"],
        ["active_object.py"],
        ["factory.py"],
    ],
    ids=lambda command: command[0],
)
def test_an_example_without_its_secrets_says_which(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    bare = {name: value for name, value in environment.items() if name not in SECRETS}
    with program(tmp_path, bare, *command, "--host", "127.0.0.2") as process:
        _, complaints = process.communicate(timeout=scaled(30))
    assert complaints == (
        "RABBIT_USER is not in the environment: the top of this program says how to set it\n"
    )
    assert process.returncode == 1


def test_the_own_serializer_lets_only_good_readings_through(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = run([sys.executable, str(EXAMPLES / "own_serializer.py")], environment)
    assert sorted(output.splitlines()) == [
        "display: 21.5 degrees in the attic",
        "display: 31 degrees in the attic",
        "display: open a window",
        "display: rejected 2: refused by the deserializer",
        "thermometer: the event MEASURED cannot be serialized: a payload is a Reading or a Wish "
        "here, not a float",
    ]
    assert_nothing_is_left(tmp_path / "tmp")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"signal": 1}',
        b'{"signal": "MEASURED", "Reading": {"room": "attic"}}',
        b'{"signal": "MEASURED", "Reading": {"room": "attic", "celsius": 20}}',
        b'{"signal": "MEASURED", "Reading": {"room": "attic", "celsius": NaN}}',
        b'{"signal": "MEASURED", "Reading": {"room": "attic", "celsius": 4000.0}}',
        b'{"signal": "MEASURED", "Reading": {"room": "", "celsius": 20.0}}',
        b'{"signal": "MEASURED", "Reading": {"room": "attic", "celsius": 20.0, "x": 1}}',
        b'{"signal": "MEASURED", "Reading": [], "Wish": []}',
        b'{"signal": "MEASURED", "Popen": {"args": "ls"}}',
        b'{"signal": "WISHED", "Wish": {"room": "attic", "warmer": 1}}',
    ],
)
def test_the_own_deserializer_refuses(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    own_serializer = importlib.import_module("own_serializer")
    with pytest.raises(ValueError):  # noqa: PT011  # each has its own
        own_serializer.from_bytes(data)
    good = ("MEASURED", own_serializer.Reading("attic", 20.0))
    assert own_serializer.from_bytes(own_serializer.to_bytes(good)) == good
    assert own_serializer.from_bytes(own_serializer.to_bytes(("DONE", None))) == ("DONE", None)


def test_the_callbacks_see_what_arrives(environment: dict[str, str], tmp_path: Path) -> None:
    output = run([sys.executable, str(EXAMPLES / "callbacks.py")], environment)
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("house: ")] == [
        "house: a friend comes in",
        "house: an aunt comes in",
        "house: a neighbour comes in",
    ]
    assert lines[-4] == "porter: turned away 2"
    traced = r"watchman: visitors: \[[-0-9]{10} [0-9:.]{15}\] \[visitors\] e->"
    assert re.fullmatch(traced + r"start_at\(\) top->on_the_way", lines[-3])
    assert re.fullmatch(traced + r"RING\(\) on_the_way->gone", lines[-2])
    assert lines[-1] == "watchman: 12 lines of the spy"
    assert_nothing_is_left(tmp_path / "tmp")


def test_the_snoop_logger_writes_what_the_players_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = run([sys.executable, str(EXAMPLES / "snoop_logger.py")], environment)
    logged = [line for line in output.splitlines() if re.match(r"[-0-9]{10} \S+ INFO ", line)]
    for kind in (
        r"trace \[.*\] \[pong\] e->BALL\(\) receiving->striking",
        r"spy   \[(ping|pong)\] STRIKE:striking",
    ):
        assert [line for line in logged if re.search(kind + "$", line)], kind
    assert_nothing_is_left(tmp_path / "tmp")


def test_the_snoop_logger_runs_as_a_service_and_notices_silence(
    with_secrets: dict[str, str], tmp_path: Path, broker_a: LocalBroker
) -> None:
    at = ("--host", str(broker_a.address))
    log = tmp_path / "snoop.log"
    command = ("snoop_logger.py", *at, "--addresses", "--report", "0.5")

    def has(text: str) -> bool:
        return log.exists() and text in log.read_text(encoding="utf-8")

    with program(tmp_path, with_secrets, *command) as logger:
        wait_until(lambda: has("WARNING       # nothing was heard for 0.5 s"), 30)
        with program(tmp_path, with_secrets, "snoop_logger.py", *at, "--play"):
            wait_until(lambda: has("[pong] e->BALL() receiving->striking"), 30)
            wait_until(lambda: has(" of pong"), 30)
        end(logger, signal.SIGTERM)
    assert not has(" spy ")


def test_at_a_shared_broker_nothing_is_lost_when_its_power_is_cut(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = run([sys.executable, str(EXAMPLES / "shared_broker.py")], environment)
    lines = output.splitlines()
    # On a busy machine, the collector falls silent more than once.
    heard = [line for line in lines if line.startswith("collector: hears")]
    pair = ["collector: hears nothing any more", "collector: hears the sensors again"]
    assert heard == pair * (len(heard) // 2) != []
    assert [line for line in lines if line not in pair] == [
        "broker: its power is cut",
        "broker: is back",
        *(
            f"collector: 80 readings of {name}: each once and in order"
            for name in ("attic", "cellar", "garden")
        ),
    ]
    assert_nothing_is_left(tmp_path / "tmp")


def test_the_page_shows_every_example_and_its_statecharts() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.rst").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\.\. literalinclude:: \.\./examples/(\S+)$", page, re.MULTILINE))
    elsewhere = ("team/", "deployment/")  # which have pages of their own
    on_stage = {"crossing/demo.py", "crossing/stage.py", "fireflies/night.py", "fireflies/watch.py"}
    programs = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert shown == {one for one in programs if not one.startswith(elsewhere)} - on_stage
    pictures = {path.stem for path in (EXAMPLES.parent / "docs" / "pictures").glob("chart_*.svg")}
    not_here = ("chart_team", "chart_deployment", "chart_own_serializer_thermometer", "chart_kinds")
    for picture in pictures:
        if not picture.startswith(not_here):
            assert f".. diagram:: {picture}\n" in page, picture
