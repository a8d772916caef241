"""Where a thread is: for the log, when a handler or a callback of the user does not return."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

_OUR_FOLDER = str(Path(__file__).parent) + os.sep
_PACKAGES = f"-packages{os.sep}"
"""In the path of whatever pip, or Debian, has installed."""


class Activity(NamedTuple):
    """What a handler or a callback is doing."""

    signal: str = ""
    """The signal that it handles; empty if it is none."""
    state: str = ""
    """The state in which the chart was when the signal came; empty if it is not a chart."""
    at: str = ""
    """Where its thread is: file, line and function. Empty if the thread has ended."""


def place_of(thread_id: int | None) -> str:
    """Return where a thread is: the innermost place in the user's code, and what that waits in.

    The user's code is what belongs neither to Python, nor to miros or this package, nor, if there
    is other code, to an installed package. Returns nothing for a thread that has ended.

    Args:
        thread_id: what `threading.get_ident` returns in that thread.
    """
    spots = [_Spot(frame.f_code, frame.f_lineno) for frame in frames_of(thread_id)]
    if not spots:
        return ""
    shown = _users(spots)
    if shown is spots[0]:
        return _place(shown)
    return f"{_place(shown)}, which waits in {_place(spots[0])}"


def place_in(traceback: TracebackType | None) -> str:
    """Return where an error was raised: the innermost place in the user's code.

    Returns nothing for an error without a traceback.
    """
    spots = [_Spot(frame.f_code, line) for frame, line in walk_tb(traceback)]
    return _place(_users(spots[::-1])) if spots else ""


class _Spot(NamedTuple):
    """A line of a function."""

    code: CodeType
    line: int


def _users(spots: Sequence[_Spot]) -> _Spot:
    """Find the innermost one in the user's code among some, the innermost first."""
    ours, pythons = _folders()

    def strangeness(spot: _Spot) -> int:
        path = spot.code.co_filename
        if path.startswith(("<", *ours)):
            return 2
        if _PACKAGES in path:
            return 1  # a program of the user's may be installed like a library
        return 2 if path.startswith(pythons) else 0

    return min(spots, key=strangeness)  # of several, the first


def local_in(frames: Iterable[FrameType], code: CodeType, name: str) -> Any:
    """Return a local variable of a function; `None` if none of the frames is of it.

    Args:
        frames: those of a thread, or of a traceback, from the innermost.
        code: the code of the function.
        name: the variable.
    """
    for frame in frames:
        if frame.f_code is code:
            return frame.f_locals.get(name)
    return None


def frames_of(thread_id: int | None) -> Iterator[FrameType]:
    """Return the frames of a thread, from the innermost to the outermost."""
    frame = None if thread_id is None else sys._current_frames().get(thread_id)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders of this package and of miros, and those of Python."""
    miros = getattr(sys.modules.get("miros"), "__file__", None)
    ours = (_OUR_FOLDER, str(Path(miros).parent) + os.sep) if miros else (_OUR_FOLDER,)
    return ours, _folders_of_python()


@functools.cache  # it takes nearly a millisecond
def _folders_of_python() -> tuple[str, ...]:
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return tuple(folder + os.sep for folder in folders if folder)


def _place(spot: _Spot) -> str:
    return f"{spot.code.co_filename}:{spot.line} in {spot.code.co_name}"
