"""Calls from the handler of a signal that has interrupted this package.

Python runs such a handler in the main thread, between any two steps of what that thread is doing.
This may be the middle of a `transmit`, a start or a stop: with locks held that are not released
before the handler has returned, and with other threads waiting for these. So a call that would wait
asks `has_interrupted` first. If so, what takes its time is handed to a thread of its own, which
waits in the handler's place: `do_apart` for a stop, and `do_in_turn` for what has an order. What
only looks does not wait for locks, and what can do neither raises `refuse`'s error at once.

Posts do not ask, because that takes a microsecond. They try the locks that they need (see
`is_mine`), and leave an event to whoever holds the lock.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn, TypeVar

from . import process
from .exceptions import MirosApiException
from .logs import must_not_wait

logger: logging.Logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_OUR_FOLDER = str(Path(__file__).parent) + os.sep
_calling_out: set[CodeType] = set()


def calls_out(function: F) -> F:
    """Mark a function that runs code of the user's in the caller's thread, and holds nothing.

    What that code calls has interrupted nothing, whatever called the function.
    """
    _calling_out.add(function.__code__)
    return function


def has_interrupted() -> bool:
    """Tell whether the caller was called in the middle of what this package does in this thread.

    This is the case in the handler of a signal that has come then, and in a handler of `logging`
    that gets a line of ours. It is not in code that we call on purpose: see `calls_out`. It is also
    in a thread that others depend on, which never runs code of the user's on purpose: there Python
    destroys an object of the user's, with ``__del__``. To be asked in a method of this package,
    which the user has called.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return must_not_wait()  # Python runs handlers of signals nowhere else
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OUR_FOLDER):  # the call itself
        if frame.f_back is None:
            return False
        frame = frame.f_back
    outer = frame.f_back
    while outer is not None:
        code = outer.f_code
        if code in _calling_out:
            return False
        if code.co_filename.startswith(_OUR_FOLDER):
            return True
        outer = outer.f_back
    return False


def is_mine(lock: threading.RLock) -> Callable[[], bool]:
    """Return a quick function that tells whether the calling thread holds a lock.

    If it does where the code around it does not, the caller is the handler of a signal that has
    interrupted whoever took the lock.
    """
    asks: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined]  # conditions use it
    return asks


def refuse(what: str) -> NoReturn:
    """Refuse a call that can neither be done by another thread nor without waiting.

    Raises:
        MirosApiException: always.
    """
    raise MirosApiException(
        f"{what} was called in the handler of a signal, in the middle of other work of "
        "miros_rabbitmq in this thread, for which it would have to wait: let the handler set a "
        "flag, or raise an exception, and call it in the main program"
    )


def refuse_to_wait_for(lock: threading.Lock, what: str) -> None:
    """Refuse a call that would wait for a lock in the handler of a signal, see `refuse`.

    Raises:
        MirosApiException: the lock is taken, and the caller has interrupted this package.
    """
    if lock.locked() and has_interrupted():
        refuse(what)


class _Errands:
    """What is done one after the other, in the order in which it was asked for."""

    def __init__(self) -> None:
        self.disown()
        process.disown_in_child(self, process.Stage.NETWORKS)

    def disown(self) -> None:
        """Leave to the parent what it was asked for, in a forked child."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[], object], str]] = deque()

    def add(self, job: Callable[[], object], what: str) -> None:
        errand = (job, what)
        self._waiting.append(errand)
        _start(self._do_all, what)

    def _do_all(self) -> None:
        with self._lock:
            while self._waiting:
                job, what = self._waiting.popleft()
                _do(job, what)


_errands = _Errands()


def do_apart(job: Callable[[], object], what: str) -> None:
    """Have a thread of its own do something; returns at once. An error is logged.

    If the program is about to end, nothing is done: its end does what is needed.

    Args:
        job: what to do.
        what: names it, for errors.

    Raises:
        MirosApiException: no thread can be started.
    """
    _start(lambda: _do(job, what), what)


def do_in_turn(job: Callable[[], object], what: str) -> None:
    """Have a thread do something when it has done what it was given before; see `do_apart`."""
    _errands.add(job, what)


def _start(run: Callable[[], object], what: str) -> None:
    thread = threading.Thread(target=run, name=f"miros {what}", daemon=True)
    # By a bare thread, because `Thread.start` takes locks and waits.
    try:
        _thread.start_new_thread(_start_now, (thread, what))
    except RuntimeError as error:
        if not process.is_ending():
            raise MirosApiException(
                f"no thread can be started for {what}, which a handler of a signal has called: "
                "call it again in the main program"
            ) from error


def _start_now(thread: threading.Thread, what: str) -> None:
    try:
        thread.start()
    except RuntimeError:
        if not process.is_ending():
            logger.exception("no thread can be started for %s", what)


def _do(job: Callable[[], object], what: str) -> None:
    try:
        job()
    except Exception:
        logger.exception("%s, as the handler of a signal has asked for, has failed", what)
