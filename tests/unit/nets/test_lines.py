"""The lines of the snoops, character by character."""

from __future__ import annotations

import io
from datetime import datetime
from types import SimpleNamespace
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.nets.lines import (
    COLOUR,
    PLAIN,
    Palette,
    palette_for,
    scribble_line,
    scribble_text,
    scribbled_trace_text,
    spy_line,
    trace_line,
    trace_text,
)

MOMENT = datetime(2026, 11, 22, 8, 2, 36, 593144)  # noqa: DTZ001  miros's times are local
TRACE = SimpleNamespace(datetime=MOMENT, start_state="outer", signal="BUTTON", end_state="inner")
TRACE_TEXT = "[2026-11-22 08:02:36.593144] [light] e->BUTTON() outer->inner"

BLUE, PURPLE, DARK_GREY, RESET = "\x1b[34m", "\x1b[35m", "\x1b[90m", "\x1b[0m"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


# Trace lines.


def test_a_transition_travels_as_time_name_signal_and_states() -> None:
    assert trace_text(TRACE, "light") == TRACE_TEXT


def test_the_first_transition_has_the_signal_start_at() -> None:
    start = SimpleNamespace(datetime=MOMENT, start_state="top", signal=None, end_state="outer")
    assert trace_text(start, "light") == (
        "[2026-11-22 08:02:36.593144] [light] e->start_at() top->outer"
    )


def test_a_time_on_the_second_has_its_six_zeros() -> None:
    start = SimpleNamespace(
        datetime=MOMENT.replace(microsecond=0), start_state="a", signal="S", end_state="b"
    )
    assert trace_text(start, "n").startswith("[2026-11-22 08:02:36.000000] [n] e->S() a->b")


@pytest.mark.parametrize("own", [True, False])
def test_a_plain_trace_line(own: bool) -> None:
    assert trace_line(TRACE_TEXT, "light", own=own, palette=PLAIN) == (
        " [+t] [2026-11-22 08:02:36.593144] [light] e->BUTTON() outer->inner"
    )


def test_an_own_trace_line_has_a_blue_name() -> None:
    assert trace_line(TRACE_TEXT, "light", own=True, palette=COLOUR) == (
        f" [+t] [2026-11-22 08:02:36.593144] [{BLUE}light{RESET}] e->BUTTON() outer->inner"
    )


def test_a_trace_line_of_others_has_a_purple_name() -> None:
    assert trace_line(TRACE_TEXT, "light", own=False, palette=COLOUR) == (
        f" [+t] [2026-11-22 08:02:36.593144] [{PURPLE}light{RESET}] e->BUTTON() outer->inner"
    )


def test_a_trace_line_without_its_senders_name_is_shown_as_it_is() -> None:
    assert trace_line("what is this", "light", own=False, palette=COLOUR) == " [+t] what is this"


@pytest.mark.parametrize("name", ["a b", "[light]", "x] [y", "*", "e->", "naïve 🚦"])
def test_a_name_may_be_any_text(name: str) -> None:
    text = trace_text(TRACE, name)
    assert trace_line(text, name, own=True, palette=PLAIN) == f" [+t] {text}"
    assert f"[{BLUE}{name}{RESET}] e->" in trace_line(text, name, own=True, palette=COLOUR)


# Spy lines.


@pytest.mark.parametrize("own", [True, False])
def test_a_plain_spy_line(own: bool) -> None:
    assert spy_line("ENTRY_SIGNAL:outer", "light", own=own, palette=PLAIN) == (
        " [+s] light ENTRY_SIGNAL:outer"
    )


def test_spy_lines_have_the_same_colours() -> None:
    assert spy_line("START", "light", own=True, palette=COLOUR) == (
        f" [+s] {BLUE}light{RESET} START"
    )
    assert spy_line("START", "light", own=False, palette=COLOUR) == (
        f" [+s] {PURPLE}light{RESET} START"
    )


# Scribbles.


def test_a_scribble_in_the_spy() -> None:
    text = scribble_text("look here")
    assert text == "# look here"
    assert spy_line(text, "light", own=True, palette=PLAIN) == " [+s] light # look here"
    assert spy_line(text, "light", own=False, palette=COLOUR) == (
        f" [+s] {PURPLE}light{RESET} # {DARK_GREY}look here{RESET}"
    )


def test_a_scribble_in_the_trace() -> None:
    text = scribbled_trace_text("look here", "light", MOMENT)
    assert trace_line(text, "light", own=True, palette=PLAIN) == (
        " [+t] [2026-11-22 08:02:36.593144] [light] # look here"
    )
    assert trace_line(text, "light", own=True, palette=COLOUR) == (
        f" [+t] [2026-11-22 08:02:36.593144] [{BLUE}light{RESET}] # {DARK_GREY}look here{RESET}"
    )


def test_a_scribble_only_on_the_terminal() -> None:
    assert scribble_line("look here", palette=PLAIN) == "# look here"
    assert scribble_line("look here", palette=COLOUR) == f"# {DARK_GREY}look here{RESET}"


def test_an_empty_scribble_is_only_a_mark() -> None:
    assert scribble_line("", palette=PLAIN) == "# "


# What others send.


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\r[forged]",
        "\n [+t] forged",
        "\r\n",
        "\x0b\x0c\x1c\x1d\x1e",
        "\x85",
        "\u2028 [+s] forged",
        "\u2029",
        "\b\b\b\b",
        "\x00",
        "\x7f",
        "\t",
    ],
    ids=repr,
)
@pytest.mark.parametrize("palette", [PLAIN, COLOUR], ids=["plain", "colour"])
def test_control_characters_of_others_are_neutralized(attack: str, palette: Palette) -> None:
    lines = [
        trace_line(f"{TRACE_TEXT}{attack}", "light", own=False, palette=palette),
        trace_line(attack, f"li{attack}ght", own=False, palette=palette),
        spy_line(f"# {attack}", f"li{attack}ght", own=False, palette=palette),
        scribble_line(attack, palette=palette),
    ]
    for line in lines:
        bare = without_colours(line, palette)
        assert bare.isprintable()
        assert len(bare.splitlines()) == 1


def without_colours(line: str, palette: Palette) -> str:
    for sequence in filter(None, (palette.own, palette.other, palette.scribble, palette.reset)):
        line = line.replace(sequence, "")
    return line


@given(st.text(), st.text(min_size=1))
def test_a_line_is_always_one_line_without_an_escape(text: str, name: str) -> None:
    for line in (
        trace_line(f"[now] [{name}] {text}", name, own=False, palette=PLAIN),
        spy_line(text, name, own=False, palette=PLAIN),
        scribble_line(text, palette=PLAIN),
    ):
        assert len(line.splitlines()) == 1
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)


@given(st.text(alphabet=st.characters(exclude_categories=("C", "Z"))))
def test_what_can_be_printed_is_left_as_it_is(text: str) -> None:
    assert spy_line(text, "n", own=False, palette=PLAIN) == f" [+s] n {text}"


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f"], ids=repr)
def test_a_line_of_others_cannot_reverse_the_direction_of_writing(mark: str) -> None:
    assert mark not in spy_line(f"{mark}thgil", "n", own=False, palette=PLAIN)


# Whether there are colours.


@pytest.mark.parametrize(
    ("environment", "on_terminal", "on_file"),
    [
        ({}, COLOUR, PLAIN),
        ({"NO_COLOR": "1"}, PLAIN, PLAIN),
        ({"NO_COLOR": "0"}, PLAIN, PLAIN),
        ({"NO_COLOR": ""}, COLOUR, PLAIN),
        ({"FORCE_COLOR": "1"}, COLOUR, COLOUR),
        ({"FORCE_COLOR": ""}, COLOUR, PLAIN),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, PLAIN, PLAIN),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, COLOUR, COLOUR),
        ({"TERM": "xterm"}, COLOUR, PLAIN),
    ],
)
def test_colours_follow_the_environment_and_the_kind_of_stream(
    environment: dict[str, str], on_terminal: Palette, on_file: Palette
) -> None:
    assert palette_for(Terminal(), environment) is on_terminal
    assert palette_for(io.StringIO(), environment) is on_file


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stream: TextIO = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert palette_for(stream) is COLOUR
    monkeypatch.setenv("NO_COLOR", "1")
    assert palette_for(stream) is PLAIN


def test_the_colours_are_blue_purple_and_dark_grey() -> None:
    assert Palette(own=BLUE, other=PURPLE, scribble=DARK_GREY, reset=RESET) == COLOUR
    assert Palette("", "", "", "") == PLAIN
