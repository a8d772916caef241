"""The live output of a chart: its live spy and trace lines, and what it prints by `print`.

miros writes that of all charts of a process in one thread, whose end it does not notice. If a
callback raised there, no chart of the process would write another line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..failures import OnRaise, call


class LiveOutput:
    """Takes the place of miros's writer in one chart. Any thread may call any method.

    Args:
        writer: miros's, one for the process.
        on_raise: takes what a callback raises, in the thread of the writer.
    """

    def __init__(self, writer: Any, on_raise: OnRaise) -> None:
        self._writer = writer
        self._on_raise = on_raise

    def start(self) -> None:
        """Start the thread."""
        self._writer.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        alive: bool = self._writer.is_alive()
        return alive

    def stop(self) -> None:
        """End the thread after its next line."""
        self._writer.stop()

    def _print(self, fn: Callable[[Any], object], content: Any) -> None:
        """Have a callback called soon; miros calls this."""
        self._writer._print(functools.partial(call, fn, on_raise=self._on_raise), content)
