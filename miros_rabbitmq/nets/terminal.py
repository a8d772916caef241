"""Writes snoop lines to the terminal, in a thread of its own.

A terminal can block, and neither a chart nor a connection may wait for it. Lines beyond a bound are
dropped, oldest first, and their number is written in their place.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from ..process import Stage, disown_in_child, end_with_program
from ..worker import Worker
from .lines import PLAIN, Palette, palette_for

logger: logging.Logger = logging.getLogger(__name__)

_MAX_LINES = 5_000
"""The most lines that wait for a terminal: some seconds of a busy system."""

_MAX_BYTES = 4 * 1024 * 1024
"""The most memory that they take. As much again may be in the lines that are being written."""

_BYTES_OF_ENTRY = 400
"""What waits with a line."""

LAST_LINES_S = 1.0
"""How long a chart that stops, and a program that ends, wait for the terminal."""

Line = Callable[[Palette], str]
"""Lays out a line for a terminal."""


class SnoopTerminal:
    """A queue of lines and the thread that writes them to ``sys.stdout``.

    `write` may be called from any thread. It starts the queue's thread if necessary.

    Args:
        name: the name of the chart, which becomes a part of the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = f"miros snoop terminal of {name}"
        self._worker = Worker(self._name, self._write, max_items=_MAX_LINES, max_bytes=_MAX_BYTES)
        self._is_broken = False
        self._asked_s = 0.0
        self.disown()
        disown_in_child(self, Stage.WORKERS)

    def disown(self) -> None:
        """Have what waits written when this process ends, which may be a forked child."""
        end_with_program(self, Stage.WORKERS)

    def write(self, line: Line, *, colour: bool = True, size: int = 0) -> None:
        """Have a line written.

        Args:
            line: lays it out, given a palette. Called in the thread of the terminal.
            colour: whether it may be coloured, if the terminal and the user want colours.
            size: how many bytes of memory its text takes.
        """
        self._worker.put((line, colour), _BYTES_OF_ENTRY + size)

    def stop(self, timeout: float) -> None:
        """Write what waits, and end the thread; give up after ``timeout`` seconds."""
        self._worker.stop(timeout)

    def ask_to_end(self) -> None:
        """Note that the program ends: all terminals have the same time for their last lines."""
        self._asked_s = time.monotonic()

    def end(self, began_s: float) -> None:
        """Write what waits, before the program ends."""
        self.stop(max(0.0, self._asked_s + LAST_LINES_S - time.monotonic()))

    def _write(self, lines: deque[tuple[Line, bool]], dropped: int) -> None:
        try:
            _write_lines(lines, dropped)
            self._is_broken = False
        except Exception as error:  # noqa: BLE001  # at the top of a thread
            # A closed pipe, or a broken object in the place of the program's output: nobody reads
            # it, and nothing else may suffer from it.
            level = logging.DEBUG if self._is_broken else logging.WARNING
            logger.log(level, "%s: cannot write: %s", self._name, error)
            self._is_broken = True


def _write_lines(lines: deque[tuple[Line, bool]], dropped: int) -> None:
    # Looked up each time, because programs and tests redirect it. A program without a console
    # has none.
    stream: TextIO | None = sys.stdout
    if stream is None:
        return
    palette = palette_for(stream)
    with _console.lock:
        if dropped:
            stream.write(f" ... {dropped} snoop lines were dropped: the terminal is too slow\n")
        while lines:
            line, colour = lines.popleft()
            _write_line(stream, line(palette if colour else PLAIN))
        stream.flush()


def _write_line(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:
        # The text has letters that this terminal cannot show.
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")


class _Console:
    """The terminal of the process, which the writers of several charts share."""

    def __init__(self) -> None:
        self.disown()
        disown_in_child(self, Stage.WORKERS)

    def disown(self) -> None:
        """Make a new lock: a forked child lacks the thread that may hold the parent's lock."""
        self.lock = threading.Lock()


_console = _Console()
