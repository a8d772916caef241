"""The whole programs of README and quick start, as a stranger runs them: as a file, and pasted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

from ..helpers import complaints, scaled
from .documents import Block, programs_of
from .terminal import OnTerminal, on_terminal

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

ALL = {
    **{f"README {name}": block for name, block in programs_of("README.rst").items()},
    **{f"quick start {name}": one for name, one in programs_of("docs/quick_start.rst").items()},
}
THAT_END = {name: block for name, block in ALL.items() if block.printed}
TOGGLED = "[lamp] e->TOGGLE() dark->bright"
PROMPT = ">>> "


def here(code: str) -> str:
    """A program at an address of its own, so that no other run of the tests has its port."""
    return code.replace("127.0.0.2", f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.2")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A plain environment, with a folder of its own for temporary files."""
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONUNBUFFERED": "1",
        # Since 3.13 Python has a prompt that needs a terminal with bracketed paste.
        "PYTHON_BASIC_REPL": "1",
        "TMPDIR": str(tmp_path / "tmp"),
        "TERM": "dumb",
        "FORCE_COLOR": "",
        "NO_COLOR": "1",
    }


def test_readme_and_quick_start_have_these_programs() -> None:
    assert list(ALL) == [
        "README plain.py",
        "README networked.py",
        "quick start both.py",
        "quick start broker.py",
        "quick start lamp.py",
        "quick start switch.py",
    ]
    assert list(THAT_END) == ["README plain.py", "README networked.py", "quick start both.py"]


@pytest.mark.parametrize("block", THAT_END.values(), ids=THAT_END)
def test_a_program_in_a_file_prints_what_its_page_says_and_nothing_else(
    block: Block, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / block.program).write_text(here(block.code), encoding="utf-8")
    begun_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, block.program],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (done.returncode, done.stdout, complaints(done.stderr)) == (0, block.printed, "")
    if "LocalBroker" not in block.code:
        assert time.monotonic() - begun_s < scaled(15)


def paste(terminal: OnTerminal, code: str) -> None:
    terminal.read_until(PROMPT)
    terminal.press(here(code).encode())
    if code.rstrip().splitlines()[-1].startswith(" "):
        terminal.press(b"\n")  # as everybody has to after an indented block


def leave(terminal: OnTerminal) -> None:
    terminal.press(b"\nexit()\n")
    terminal.read_until(None)
    assert terminal.process.wait(scaled(25)) == 0


@pytest.mark.parametrize("block", THAT_END.values(), ids=THAT_END)
def test_a_program_pasted_into_python_prints_what_its_page_says(
    block: Block, environment: dict[str, str], tmp_path: Path
) -> None:
    printed = block.printed.rstrip()
    assert printed not in block.code
    with on_terminal([sys.executable, "-q"], environment, tmp_path) as terminal:
        paste(terminal, block.code)
        terminal.read_until(printed)
        leave(terminal)
    assert "Error" not in terminal.output
    assert terminal.output.count(printed) == 1


@contextmanager
def private_broker(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """The broker of the quick start, which makes the key, too; Enter ends it."""
    (folder / "broker.py").write_text(here(ALL["quick start broker.py"].code), encoding="utf-8")
    with on_terminal([sys.executable, "broker.py"], environment, folder) as broker:
        broker.read_until("Press Enter to end it.")
        yield
        broker.press(b"\n")
        broker.read_until(None)
        assert broker.process.wait(scaled(30)) == 0, broker.output


@contextmanager
def in_files(
    environment: dict[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    with ExitStack() as stack:

        def start(name: str) -> subprocess.Popen[str]:
            path = folder / name
            path.write_text(here(ALL[f"quick start {name}"].code), encoding="utf-8")
            process = subprocess.Popen(
                [sys.executable, name],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        stack.enter_context(private_broker(environment, folder))
        lamp = start("lamp.py")
        first = line_of(lamp.stdout)
        assert "[lamp] e->start_at() top->dark" in first, first
        yield lamp, start("switch.py")


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_lamp_and_switch_in_two_files_show_the_same_trace_and_end_on_ctrl_c(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with in_files(environment, tmp_path) as (lamp, switch):
        assert "[switch] e->start_at() top->waiting" in line_of(switch.stdout)
        for process in (switch, lamp):
            lines: list[str] = []
            while len([one for one in lines if "[lamp] e->TOGGLE()" in one]) < 2:
                lines.append(line_of(process.stdout))
                assert lines[-1], process.communicate()
            assert re.fullmatch(
                r" \[\+t\] \[[-0-9]{10} [0-9:.]{15}\] \[lamp\] e->TOGGLE\(\) \S+\n", lines[-1]
            )
        for process in (switch, lamp):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=scaled(30))
            assert (process.returncode, complaints(errors)) == (0, "")
    assert not list((tmp_path / "tmp").iterdir())
    assert (tmp_path / "mesh.key").stat().st_mode & 0o077 == 0


def test_lamp_and_switch_pasted_into_two_terminals_show_the_same_trace(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        stack.enter_context(private_broker(environment, tmp_path))
        terminals = []
        for name, first in (("lamp.py", "top->dark"), ("switch.py", "top->waiting")):
            terminal = stack.enter_context(
                on_terminal([sys.executable, "-q"], environment, tmp_path)
            )
            paste(terminal, ALL[f"quick start {name}"].code)
            terminal.read_until(first)
            terminals.append(terminal)
        for terminal in terminals:
            terminal.read_until(TOGGLED)
        for terminal in reversed(terminals):
            terminal.press(b"\x03")
            leave(terminal)
            assert "Error" not in terminal.output
            assert "Traceback" not in terminal.output
