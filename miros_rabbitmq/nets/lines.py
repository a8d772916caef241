"""Lays out the lines of the snoops: a trace, a spy line and a scribble, in colour and plain.

Pure text. A trace line has the form that miros writes, with its time and its chart's name. A spy
line and a scribble get the name here. ::

     [+t] [2026-11-22 08:02:36.593144] [name] e->signal() from->to
     [+s] name line
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

from ..foreign import on_one_line
from ..wire.envelope import MOST_LINE

SCRIBBLE_MARK = "# "


@dataclass(frozen=True)
class Palette:
    """The escape sequences around the parts of a line."""

    own: str = ""
    """The name of this node's own chart."""
    other: str = ""
    """The name of another chart."""
    scribble: str = ""
    """The text of a scribble."""
    reset: str = ""


PLAIN = Palette()
COLOUR = Palette(own="\x1b[34m", other="\x1b[35m", scribble="\x1b[90m", reset="\x1b[0m")
"""Blue, purple and dark grey: ECMA-48 SGR 34 and 35, and the bright black 90 of aixterm."""


def palette_for(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Palette:
    """Choose colours for a terminal, and none for anything else.

    The environment variables ``NO_COLOR`` and ``FORCE_COLOR`` decide first, in this order, if they
    are set and not empty (https://no-color.org, https://force-color.org).
    """
    if environment.get("NO_COLOR"):
        return PLAIN
    if environment.get("FORCE_COLOR"):
        return COLOUR
    # Programs may replace their output by an object that lacks some methods of a stream.
    is_terminal = getattr(stream, "isatty", None)
    return COLOUR if is_terminal is not None and is_terminal() else PLAIN


def trace_text(trace: Any, name: str) -> str:
    """Word miros's record of a transition as it travels: time, name, signal, states."""
    signal = "start_at" if trace.signal is None else trace.signal
    return f"{_stamp(trace.datetime)} [{name}] e->{signal}() {trace.start_state}->{trace.end_state}"


def scribbled_trace_text(message: str, name: str, now: datetime) -> str:
    """Word a scribble as a line of the trace network."""
    return f"{_stamp(now)} [{name}] {scribble_text(message)}"


def scribble_text(message: str) -> str:
    """Word a scribble as a line of the spy network."""
    return f"{SCRIBBLE_MARK}{message}"


def shorten(text: str) -> str:
    """Return a line as it travels: cut with a mark if it is long, and with no half characters.

    Receivers refuse longer ones: thousands of lines may wait for a terminal that is slow.
    """
    if len(text) > MOST_LINE:
        rest = f" ... ({len(text) - MOST_LINE:,} characters more)"
        text = text[: MOST_LINE - len(rest)] + rest
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    return text


def trace_line(text: str, name: str, *, own: bool, palette: Palette) -> str:
    """Lay out a line of the trace network for a terminal."""
    text, name = on_one_line(text), on_one_line(name)
    stamp, mark, rest = text.partition(f" [{name}] ")
    if not mark:
        return f" [+t] {text}"
    return f" [+t] {stamp} [{_named(name, own, palette)}] {_body(rest, palette)}"


def spy_line(text: str, name: str, *, own: bool, palette: Palette) -> str:
    """Lay out a line of the spy network for a terminal."""
    text, name = on_one_line(text), on_one_line(name)
    return f" [+s] {_named(name, own, palette)} {_body(text, palette)}"


def scribble_line(message: str, *, palette: Palette) -> str:
    """Lay out a scribble that goes only to the terminal."""
    return _body(scribble_text(on_one_line(message)), palette)


def _stamp(time: datetime) -> str:
    return time.strftime("[%Y-%m-%d %H:%M:%S.%f]")


def _named(name: str, own: bool, palette: Palette) -> str:
    return f"{palette.own if own else palette.other}{name}{palette.reset}"


def _body(text: str, palette: Palette) -> str:
    if not text.startswith(SCRIBBLE_MARK):
        return text
    message = text.removeprefix(SCRIBBLE_MARK)
    return f"{SCRIBBLE_MARK}{palette.scribble}{message}{palette.reset}"
