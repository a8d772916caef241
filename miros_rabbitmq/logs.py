"""Log lines of threads that must not wait.

A handler of `logging` may block: on a terminal that nobody reads, a full disk, or a log server that
does not answer. So a thread that drives connections hands its lines to another thread, which writes
them. Lines beyond a bound are dropped, and their number is logged. Any other thread logs as usual.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections import deque
from typing import Any

from .process import Stage, end_with_program
from .worker import Worker

_MOST_LINES = 1_000
"""The most lines that wait for a handler."""

_MOST_BYTES = 4 * 1024 * 1024
"""The most memory of these lines, in all."""

_BYTES_OF_LINE, _BYTES_OF_TRACEBACK = 1_000, 50_000
"""What a line takes besides its text, and what it takes more if it comes with a traceback, whose
frames keep what they work on."""

_IDLE_S = 1.0
"""The thread ends after this long without a line."""

_LAST_LINES_S = 0.5
"""How long the end of a program waits for the handlers."""


class MustNotWait(threading.Thread):
    """A thread that others depend on, and which must not wait for a handler of `logging`."""


def must_not_wait() -> bool:
    """Tell whether the calling thread is a `MustNotWait`."""
    return isinstance(threading.current_thread(), MustNotWait)


class RelayedLogger:
    """A `logging.Logger` for code that may run in a thread that must not wait.

    Args:
        name: the name of the logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, *arguments: object) -> None:
        """Log at the level of the same name, as the next four methods do."""
        self._log(logging.DEBUG, message, arguments)

    def info(self, message: str, *arguments: object) -> None:
        self._log(logging.INFO, message, arguments)

    def warning(self, message: str, *arguments: object) -> None:
        self._log(logging.WARNING, message, arguments)

    def error(self, message: str, *arguments: object, exc_info: Any = None) -> None:
        self._log(logging.ERROR, message, arguments, exc_info)

    def exception(self, message: str, *arguments: object) -> None:
        self._log(logging.ERROR, message, arguments, sys.exc_info())

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Log at a level of `logging`."""
        self._log(level, message, arguments)

    def _log(
        self, level: int, message: str, arguments: tuple[object, ...], exc_info: Any = None
    ) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        path, line, function = _caller()
        record = logger.makeRecord(
            logger.name, level, path, line, message, arguments, exc_info, function
        )
        if must_not_wait():
            _relay.put((logger, record), _size_of(record))
        else:
            logger.handle(record)


def _caller() -> tuple[str, int, str]:
    """The file, line and function of whoever called a method of `RelayedLogger`.

    `logging.Logger.findCaller` counts its levels otherwise before Python 3.11.
    """
    frame = inspect.currentframe()
    for _ in range(3):  # this function, _log, and the method
        if frame is not None:
            frame = frame.f_back
    if frame is None:
        return "(unknown file)", 0, "(unknown function)"
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def _size_of(record: logging.LogRecord) -> int:
    """About how many bytes of memory a line takes that waits."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    text = sum(len(one) if isinstance(one, str) else len(str(one)) for one in arguments)
    return _BYTES_OF_LINE + text + _BYTES_OF_TRACEBACK * bool(record.exc_info)


class _Relay(Worker[tuple[logging.Logger, logging.LogRecord]]):
    """The thread of this process that writes the log lines of other threads."""

    def __init__(self) -> None:
        super().__init__(
            "miros log",
            self._write,
            max_items=_MOST_LINES,
            max_bytes=_MOST_BYTES,
            idle_s=_IDLE_S,
        )
        end_with_program(self, Stage.WORKERS)

    def _write(self, lines: deque[tuple[logging.Logger, logging.LogRecord]], dropped: int) -> None:
        if dropped:
            logging.getLogger(__name__).warning(
                "%d log lines were dropped: a handler of logging is too slow", dropped
            )
        while lines:
            logger, record = lines.popleft()
            logger.handle(record)

    def disown(self) -> None:
        """Become usable in a forked child, and write what waits when the child ends."""
        super().disown()
        end_with_program(self, Stage.WORKERS)

    def ask_to_end(self) -> None:
        """Do nothing: `end` alone is enough."""

    def end(self, began_s: float) -> None:
        """Write what waits, as far as the handlers take it within a moment."""
        self.handle_here()
        self.stop(_LAST_LINES_S)


_relay = _Relay()


def write_all(timeout: float) -> bool:
    """Wait until every line that was handed over so far is written; False after ``timeout`` s."""
    if not must_not_wait():
        _relay.handle_here()
    return _relay.drain(timeout)
