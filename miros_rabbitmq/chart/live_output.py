"""The live output of a chart: its live spy and trace lines, and what it prints by `print`.

miros writes that of all charts of a process in one thread, whose end it does not notice. If a
callback raised there, no chart of the process would write another line. And its queue is not
bounded: while nobody reads the terminal, each event that others send would add a line to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .. import process
from ..failures import OnRaise, call

logger: logging.Logger = logging.getLogger(__name__)

_MOST_LINES = 5_000
"""The most lines of a chart that wait for the thread; further ones are dropped."""


class LiveOutput:
    """Takes the place of miros's writer in one chart. Any thread may call any method.

    Args:
        writer: miros's, one for the process.
        on_raise: takes what a callback raises, in the thread of the writer.
        most_lines: the most lines that wait.
    """

    def __init__(self, writer: Any, on_raise: OnRaise, most_lines: int = _MOST_LINES) -> None:
        self._writer = writer
        self._on_raise = on_raise
        self._most_lines = most_lines
        self.dropped: int = 0
        """Lines that were dropped."""
        # Threads that print at the same time may miscount by one each; that does no harm.
        self._put = self._done = 0
        self._is_dropping = False
        process.disown_in_child(self, process.Stage.CHARTS)

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
        waiting = self._put - self._done
        if waiting >= self._most_lines:
            self.dropped += 1
            if not self._is_dropping:
                self._is_dropping = True
                logger.warning(
                    "live lines are dropped from now on: %d wait for the terminal", waiting
                )
            return
        if self._is_dropping and 2 * waiting <= self._most_lines:
            self._is_dropping = False
        self._put += 1
        self._writer._print(lambda line: self._call(fn, line), content)

    def _call(self, fn: Callable[[Any], object], line: Any) -> None:
        self._done += 1
        call(fn, line, self._on_raise)

    def disown(self) -> None:
        """Forget in a forked child what waits in the parent."""
        self._put = self._done = 0
