"""The writer of snoop lines: whole lines, in order, and nobody waits for it."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator

import pytest

from miros_rabbitmq.nets.lines import Palette
from miros_rabbitmq.nets.terminal import _MAX_LINES, Line, SnoopTerminal
from tests.helpers import scaled, wait_until


class BlockingStream(io.StringIO):
    """A terminal that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.released.wait(scaled(10))
        return super().write(text)


class ColourStream(io.StringIO):
    """A terminal with colours."""

    def isatty(self) -> bool:
        return True


class BrokenStream(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.fixture
def terminal() -> Iterator[SnoopTerminal]:
    terminal = SnoopTerminal("chart")
    yield terminal
    terminal.stop(scaled(5))


def redirect(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> io.StringIO:
    """To be called in the test itself, because pytest sets its own stream after fixtures."""
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def text(line: str) -> Line:
    return lambda _palette: line


def colour_of(palette: Palette) -> str:
    return f"colour {palette.own!r}"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "snoop terminal" in thread.name]


def test_a_new_terminal_has_no_thread_and_the_first_line_starts_it(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    assert threads() == []
    terminal.write(text("line"))
    assert threads() == ["miros snoop terminal of chart"]
    wait_until(lambda: stream.getvalue() == "line\n")


def test_lines_come_out_on_standard_output(
    terminal: SnoopTerminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.write(text(" [+s] a b"))
    terminal.write(text(" [+s] a c"))
    terminal.stop(scaled(5))
    assert capsys.readouterr().out == " [+s] a b\n [+s] a c\n"


def test_stop_writes_what_waits_and_ends_the_thread(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    lines = [f"line {number}" for number in range(1_000)]
    for line in lines:
        terminal.write(text(line))
    terminal.stop(scaled(5))
    assert stream.getvalue().splitlines() == lines
    assert threads() == []


def test_stop_may_come_without_a_line_and_twice(terminal: SnoopTerminal) -> None:
    terminal.stop(0.0)
    terminal.stop(0.0)
    assert threads() == []


def test_after_a_stop_a_line_starts_it_again(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    terminal.write(text("before"))
    terminal.stop(scaled(5))
    terminal.write(text("after"))
    terminal.stop(scaled(5))
    assert stream.getvalue() == "before\nafter\n"
    assert threads() == []


def test_the_lines_of_several_charts_do_not_mix(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    other = SnoopTerminal("other")
    start = threading.Barrier(2)

    def write(to: SnoopTerminal, name: str) -> None:
        start.wait(scaled(20))
        for number in range(500):
            to.write(text(f"{name * 20} {number}"))

    writers = [
        threading.Thread(target=write, args=(to, name))
        for to, name in ((terminal, "a"), (other, "b"))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    terminal.stop(scaled(5))
    other.stop(scaled(5))
    lines = stream.getvalue().splitlines()
    for name in "ab":
        written = [line for line in lines if line.startswith(name)]
        assert written == [f"{name * 20} {number}" for number in range(500)]
    assert len(lines) == 1_000


def test_the_stream_is_looked_up_for_each_line(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    terminal.write(text("first"))
    wait_until(lambda: stream.getvalue() == "first\n")
    later = redirect(monkeypatch, io.StringIO())
    terminal.write(text("second"))
    wait_until(lambda: later.getvalue() == "second\n")
    assert stream.getvalue() == "first\n"


def test_a_terminal_has_colours_unless_the_line_is_to_be_plain(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = redirect(monkeypatch, ColourStream())
    terminal.write(colour_of)
    terminal.write(colour_of, colour=False)
    terminal.stop(scaled(5))
    assert stream.getvalue().splitlines() == [r"colour '\x1b[34m'", "colour ''"]


def test_a_file_has_no_colours(terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = redirect(monkeypatch, io.StringIO())
    terminal.write(colour_of)
    terminal.stop(scaled(5))
    assert stream.getvalue() == "colour ''\n"


def test_no_color_decides(terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = redirect(monkeypatch, ColourStream())
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.write(colour_of)
    terminal.stop(scaled(5))
    assert stream.getvalue() == "colour ''\n"


def test_a_blocked_terminal_holds_nobody_up_and_later_shows_how_many_lines_were_dropped(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = BlockingStream()
    redirect(monkeypatch, stream)
    terminal.write(text("first"))
    assert stream.reached.wait(scaled(20))
    for number in range(_MAX_LINES + 7):
        terminal.write(text(f"line {number}"))
    stream.released.set()
    terminal.stop(scaled(5))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "first"
    assert lines[1] == " ... 7 snoop lines were dropped: the terminal is too slow"
    assert lines[2:] == [f"line {number}" for number in range(7, _MAX_LINES + 7)]


def test_the_number_of_dropped_lines_is_shown_once(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = BlockingStream()
    redirect(monkeypatch, stream)
    terminal.write(text("first"))
    assert stream.reached.wait(scaled(20))
    for _ in range(_MAX_LINES + 1):
        terminal.write(text("line"))
    stream.released.set()
    wait_until(lambda: stream.getvalue().count("\n") == _MAX_LINES + 2)
    terminal.write(text("last"))
    terminal.stop(scaled(5))
    assert stream.getvalue().count("were dropped") == 1
    assert stream.getvalue().endswith("\nlast\n")


def test_stop_gives_up_a_blocked_terminal_after_its_timeout(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = BlockingStream()
    redirect(monkeypatch, stream)
    terminal.write(text("line"))
    assert stream.reached.wait(scaled(20))
    terminal.stop(0.01)
    assert threads() == ["miros snoop terminal of chart"]
    stream.released.set()


def test_the_thread_ends_when_a_blocked_terminal_goes_on_after_the_stop(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = BlockingStream()
    redirect(monkeypatch, stream)
    terminal.write(text("line"))
    assert stream.reached.wait(scaled(20))
    terminal.stop(0.01)
    stream.released.set()
    wait_until(lambda: threads() == [])


@pytest.mark.parametrize("kind", ["closed", "broken"])
def test_a_stream_that_takes_nothing_is_logged_and_survived(
    terminal: SnoopTerminal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    bad = io.StringIO() if kind == "closed" else BrokenStream()
    if kind == "closed":
        bad.close()
    redirect(monkeypatch, bad)
    terminal.write(text("lost"))
    wait_until(lambda: "cannot write" in caplog.text)
    good = redirect(monkeypatch, io.StringIO())
    terminal.write(text("seen"))
    terminal.stop(scaled(5))
    assert good.getvalue() == "seen\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_program_without_standard_output_is_survived(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    terminal.write(text("lost"))
    assert terminal._worker.drain(scaled(20))
    stream = redirect(monkeypatch, io.StringIO())
    terminal.write(text("seen"))
    terminal.stop(scaled(5))
    assert stream.getvalue() == "seen\n"


@pytest.mark.parametrize(("encoding", "odd"), [("ascii", "Grün 🚦"), ("utf-8", "\ud800")])
def test_a_line_that_the_terminal_cannot_encode_costs_no_other(
    terminal: SnoopTerminal, monkeypatch: pytest.MonkeyPatch, encoding: str, odd: str
) -> None:
    out = io.BytesIO()
    gate = threading.Event()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding, write_through=True))

    def hold(_palette: Palette) -> str:
        assert gate.wait(scaled(20))
        return "first"

    terminal.write(hold)
    for line in ("before", odd, "after"):
        terminal.write(text(line))
    gate.set()
    terminal.stop(scaled(5))
    lines = out.getvalue().splitlines()
    assert lines[:2] == [b"first", b"before"]
    assert lines[-1] == b"after"
