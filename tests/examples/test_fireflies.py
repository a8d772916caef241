"""The fireflies, on a terminal and without one; and their picture."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ..helpers import scaled
from .terminal import OnTerminal, on_terminal
from .test_examples import EXAMPLES, assert_nothing_is_left

FOLDER = EXAMPLES / "fireflies"
WATCH = [sys.executable, str(FOLDER / "watch.py")]
CLEAN_UP = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that draws."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("night")


@pytest.fixture
def environment(tmp_path: Path, rabbitmq_installed: None) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES.parent),
        "TMPDIR": str(tmp_path),
        "TERM": "xterm-256color",
        "COLORTERM": "",
        "NO_COLOR": "",
        "COLUMNS": "80",
        "LINES": "24",
    }


def test_without_a_terminal_they_come_together_and_end_on_sigterm(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*WATCH, "--seconds", "0"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            # The story plays meanwhile; on a slow machine they find each other only after it.
            while lines[-1:] != ["        They blink together.\n"]:
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()
            process.send_signal(signal.SIGTERM)
            rest, complaints = process.communicate(timeout=scaled(30))
        finally:
            process.kill()
    assert process.returncode == 0
    assert complaints == ""
    assert "\x1b" not in "".join(lines) + rest
    states = re.findall(
        r"^ *\d+ s +\d+ fireflies  [#.]{20} [01]\.\d\d  (\w+)$", "".join(lines), re.MULTILINE
    )
    assert states
    assert set(states) == {"flickering"}
    assert_nothing_is_left(tmp_path)


@pytest.fixture
def on_screen(environment: dict[str, str]) -> Iterator[OnTerminal]:
    with on_terminal([*WATCH, "--seconds", "0"], environment) as program:
        program.read_until("space thunder    k kill a process    q quit")
        yield program


def test_on_a_terminal_keys_bring_thunder_and_end_it(on_screen: OnTerminal, tmp_path: Path) -> None:
    assert "\x1b[?1049h\x1b[?25l" in on_screen.output
    assert "▀" in on_screen.output
    on_screen.read_until("20 fireflies, 4 processes")
    on_screen.press(b"k")
    on_screen.read_until("A process is killed")
    on_screen.read_until("15 fireflies, 3 processes")
    on_screen.read_until("A new process")
    on_screen.press(b" ")
    on_screen.read_until("Thunder!")
    on_screen.press(b"q")
    on_screen.read_until(None)
    assert on_screen.process.wait(scaled(30)) == 0
    assert CLEAN_UP in on_screen.output
    assert "Traceback" not in on_screen.output
    assert_nothing_is_left(tmp_path)


def test_ctrl_c_gives_the_terminal_back(on_screen: OnTerminal, tmp_path: Path) -> None:
    on_screen.press(b"\x1a")  # Ctrl-Z, which would leave the shell with the picture
    on_screen.press(b"\x03")
    on_screen.read_until(None)
    assert on_screen.process.wait(scaled(30)) == 0
    assert CLEAN_UP in on_screen.output
    assert "Traceback" not in on_screen.output
    assert_nothing_is_left(tmp_path)


def test_nothing_outlives_it_when_it_is_killed(on_screen: OnTerminal, tmp_path: Path) -> None:
    on_screen.process.kill()
    with suppress(OSError):
        on_screen.read_until(None)
    assert_nothing_is_left(tmp_path)


def cells(frame: str) -> int:
    """How many characters a frame writes."""
    return len(re.sub(r"\x1b\[[0-9;]*[mH]", "", frame))


def test_a_frame_has_only_what_has_changed(night: Any) -> None:
    picture = night.Night(40, 12, night.Depth.FULL)
    assert cells(picture.frame([])) == 40 * 12
    assert picture.frame([]) == ""
    spark = night.Spark(0.5, 0.5, 1.0)
    lit = picture.frame([spark])
    assert 0 < cells(lit) < 100
    assert picture.frame([spark]) == ""
    assert cells(picture.frame([])) == cells(lit)
    assert picture.frame([]) == ""


def test_lightning_lights_everything_and_ends(night: Any) -> None:
    picture = night.Night(40, 12, night.Depth.FULL)
    picture.frame([])
    assert cells(picture.frame([], 1.0)) == 40 * 12
    assert cells(picture.frame([])) == 40 * 12
    assert picture.frame([]) == ""


def test_a_firefly_is_where_it_says_and_at_the_edge_too(night: Any) -> None:
    picture = night.Night(40, 12, night.Depth.PLAIN, left=3, top=2)
    picture.frame([])
    frame = picture.frame([night.Spark(0.0, 0.0, 1.0)])
    assert frame.startswith("\x1b[3;4H@")
    frame = picture.frame([night.Spark(1.0, 1.0, 1.0)])
    assert "\x1b[14;" in frame
    assert "@" in frame


@pytest.mark.parametrize(
    ("depth", "code"), [("FULL", "38;2;"), ("PALETTE", "38;5;"), ("PLAIN", None)]
)
def test_each_depth_uses_its_own_codes(night: Any, depth: str, code: str | None) -> None:
    frame = night.Night(40, 12, night.Depth[depth]).frame([night.Spark(0.3, 0.4, 0.9)])
    assert (code in frame) if code else ("m" not in frame)


@pytest.mark.parametrize(("columns", "rows"), [(20, 6), (100, 30), (33, 9)])
def test_every_size_has_a_background(night: Any, columns: int, rows: int) -> None:
    picture = night.background(columns, rows)
    assert len(picture) == 2 * rows
    assert {len(line) for line in picture} == {columns}
    assert all(0 <= part <= 255 for line in picture for pixel in line for part in pixel)


def test_the_palette_has_the_nearest_colours(night: Any) -> None:
    assert night.in_palette((0, 0, 0)) == 16
    assert night.in_palette((255, 255, 255)) == 231
    assert night.in_palette((95, 135, 175)) == 67
    assert night.in_palette((18, 18, 18)) == 233
