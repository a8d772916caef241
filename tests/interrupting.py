"""Calls something in the middle of the package's work, as Python calls the handler of a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import miros_rabbitmq

_FOLDER = str(Path(miros_rabbitmq.__file__).parent) + os.sep


class Interruption:
    """Calls a handler once, before one of the steps of Python's machine.

    All steps count that the package makes, and that others make for it, such as `threading`.
    Handlers run in the main thread between any two steps, so to try every step in turn is to try
    every moment at which a signal can come. An exception from the handler does not do here: Python
    never raises one right after a ``with`` has taken a lock, but this would.

    Args:
        step: before which step, from 0.
        handler: what to call.
    """

    def __init__(self, step: int, handler: Callable[[], object]) -> None:
        self.has_come = False
        self.place = ""
        """Where it came, for the message of a failure."""
        self._left = step
        self._handler = handler

    def during(self, act: Callable[[], object]) -> None:
        """Do something, and interrupt it if it has so many steps."""
        former = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # before `settrace`: Python 3.12 looks for any frame
        sys.settrace(self._on_call)
        try:
            act()
        finally:
            sys.settrace(former)

    def _on_call(self, frame: FrameType, _event: str, _: Any) -> Any:
        if self.has_come or not _is_for_us(frame):
            return None
        frame.f_trace = self._on_step  # before the next line: Python 3.13 looks for it there
        frame.f_trace_opcodes = True
        return self._on_step

    def _on_step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event != "opcode" or self.has_come:
            return self._on_step
        if self._left:
            self._left -= 1
            return self._on_step
        self.has_come = True
        self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        sys.settrace(None)
        self._handler()
        return None


def _is_for_us(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_FOLDER):
            return True
        frame = frame.f_back
    return False
