"""Where a thread is: for the log, when a handler or a callback of the user does not return."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
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
    frames = list(frames_of(thread_id))
    if not frames:
        return ""
    innermost = frames[0]
    ours, pythons = _folders()

    def strangeness(frame: FrameType) -> int:
        path = frame.f_code.co_filename
        if path.startswith(("<", *ours)):
            return 2
        if _PACKAGES in path:
            return 1  # a program of the user's may be installed like a library
        return 2 if path.startswith(pythons) else 0

    shown = min(frames, key=strangeness)  # of several, the first
    if shown is innermost:
        return _place(innermost)
    return f"{_place(shown)}, which waits in {_place(innermost)}"


def local_in(thread_id: int | None, code: CodeType, name: str) -> Any:
    """Return a local variable of a function that a thread is in; `None` if it is not in it.

    Args:
        thread_id: the thread.
        code: the code of the function.
        name: the variable.
    """
    for frame in frames_of(thread_id):
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
    pythons = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return ours, tuple(folder + os.sep for folder in pythons if folder)


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
