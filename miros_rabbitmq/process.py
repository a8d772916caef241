"""What this package does when the process forks, and when the program ends: one place, one order.

Objects register themselves here, by weak references, with their place in the order. At the end of a
program, `Stage` by `Stage`, every registered object is first asked to end, so that all of them end
at the same time, and then waited for. Each object has its own time limit, but all limits count from
the same beginning: ten charts that need a second each need one second together.

A forked child ends nothing that belongs to its parent. The child has copies of all objects and none
of the threads, and a lock that another thread held at the fork stays held for ever. So every
registered object forgets what belongs to the parent, from the inside out: `Stage` by `Stage`,
backwards.

An object registers for each of the two separately, under its `Stage`. Once it is garbage, it is no
longer registered. Every function here may be called from any thread.
"""

from __future__ import annotations

import atexit
import enum
import functools
import logging
import math
import os
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

logger: logging.Logger = logging.getLogger(__name__)


class Stage(enum.IntEnum):
    """The order in which a program ends; a forked child goes through it backwards."""

    CHARTS = 1
    """Statecharts: their handlers return, and nothing new is transmitted."""
    NETWORKS = 2
    """The networks of nodes: what was transmitted goes out."""
    CONNECTIONS = 3
    """Publishers and consumers that are used without a chart, and the threads for I/O."""
    WORKERS = 4
    """Threads that write lines and call callbacks."""
    BROKERS = 5
    """Private RabbitMQ nodes."""


_STAGES = tuple(Stage)


class EndsWithProgram(Protocol):
    """An object that has something to do before the program ends."""

    def ask_to_end(self) -> None:
        """Begin to end, without waiting, so that all objects of a stage end at the same time."""

    def end(self, began_s: float) -> None:
        """Wait for the end.

        Args:
            began_s: when the program began to end, by `time.monotonic`. A limit counts from here.
                Minus infinity if it is to end at once, as by a further Ctrl-C.
        """


class Forkable(Protocol):
    """An object that becomes usable again in a forked child."""

    def disown(self) -> None:
        """Forget what belongs to the parent process: threads, connections, locks."""


# Held for each change of the two registries, and while a process forks.
_lock = threading.RLock()
_ending: dict[Stage, weakref.WeakSet[EndsWithProgram]] = {one: weakref.WeakSet() for one in Stage}
_forkable: dict[Stage, weakref.WeakSet[Forkable]] = {one: weakref.WeakSet() for one in Stage}


def end_with_program(member: EndsWithProgram, stage: Stage) -> None:
    """Have an object end before the program does, unless `stay` comes first."""
    with _lock:
        _ending[stage].add(member)


def stay(member: EndsWithProgram, stage: Stage) -> None:
    """Take `end_with_program` back, for example because the object has already ended."""
    with _lock:
        _ending[stage].discard(member)


def disown_in_child(member: Forkable, stage: Stage) -> None:
    """Have an object forget, in every forked child, what belongs to the parent."""
    with _lock:
        _forkable[stage].add(member)


_has_begun_to_end = False


def is_ending() -> bool:
    """Whether the program ends: `end_all` runs, or has."""
    return _has_begun_to_end


def end_all() -> None:
    """End every registered object, in the order of the stages. Python calls this at exit.

    What the handler of a signal raises meanwhile ends nothing: the program ends already. A
    KeyboardInterrupt, as by a further Ctrl-C, means that it is to end at once: from then on nothing
    is waited for that may take its time.
    """
    global _has_begun_to_end
    _has_begun_to_end = True
    end = _End(time.monotonic())
    while not end.is_over:
        try:
            end.go_on()
        except Exception:
            raise
        except BaseException:  # noqa: BLE001, S112 - a signal, while another one is dealt with
            continue


_MOST_EXITS = 8
"""So many handlers of signals may call ``sys.exit``, or raise, while an object ends."""

_MOST_INTERRUPTS = 2
"""So many Ctrl-C may come while an object ends: the first ends its waiting, the next leaves it."""


class _End:
    """The steps by which all objects end. It goes on from wherever a handler has interrupted it.

    Args:
        began_s: when the program began to end, by `time.monotonic`.
    """

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._stages = deque(_STAGES)
        # Of the first of these: the objects that are still to be asked, and to be waited for.
        self._members: tuple[deque[EndsWithProgram], deque[EndsWithProgram]] | None = None
        self._interrupts = 0

    @property
    def is_over(self) -> bool:
        """Whether all objects have ended."""
        return not self._stages

    def go_on(self) -> None:
        """Do what is left, until it is done or a handler has raised."""
        try:
            self._do_steps()
        except KeyboardInterrupt:
            self._began_s = -math.inf
            self._was_interrupted(_MOST_INTERRUPTS)
        except BaseException as error:
            # A SystemExit, or whatever else a handler has raised to end the program.
            if isinstance(error, Exception) and not _is_of_handler(error):
                raise
            self._was_interrupted(_MOST_EXITS)

    def _was_interrupted(self, most: int) -> None:
        """Leave an object that has been interrupted so often in its step."""
        self._interrupts += 1
        if self._interrupts >= most and self._members is not None:
            steps = self._members[0] or self._members[1]
            if steps:
                steps.popleft()
            self._interrupts = 0

    def _do_steps(self) -> None:
        # Each is taken off only after it is done, so it may come twice.
        while self._stages:
            if self._members is None:
                with _lock:
                    members = list(_ending[self._stages[0]])
                self._members = deque(members), deque(members)
            to_ask, to_end = self._members
            while to_ask:
                _attempt(to_ask[0].ask_to_end, to_ask[0], "ended")
                self._is_done(to_ask)
            while to_end:
                _attempt(functools.partial(to_end[0].end, self._began_s), to_end[0], "ended")
                self._is_done(to_end)
            self._members = None
            self._stages.popleft()

    def _is_done(self, steps: deque[EndsWithProgram]) -> None:
        steps.popleft()
        self._interrupts = 0


def _attempt(step: Callable[[], object], member: object, what: str) -> None:
    try:
        step()
    except Exception as error:
        if _is_of_handler(error):
            raise
        # The others still have to be ended, or disowned.
        logger.exception("%r could not be %s", member, what)


def _is_of_handler(error: BaseException) -> bool:
    """Whether the handler of a signal has raised an error, and not what it has interrupted."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(handler, "__code__", None) for handler in handlers}
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code in codes:
            return True
        at = at.tb_next
    return False


_signals: set[signal.Signals] | set[int] = set()
"""Which signals the forking thread had blocked before."""


def _before_fork() -> None:
    # Ctrl-C in a terminal goes to the child, too, and so may any signal. It must not come before
    # the child has forgotten what belongs to the parent, neither as an exception nor as a handler.
    global _signals
    _lock.acquire()
    if hasattr(signal, "pthread_sigmask"):
        _signals = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after_fork_in_parent() -> None:
    blocked = _signals
    _lock.release()
    _set_signals(blocked)


def _after_fork_in_child() -> None:
    global _has_begun_to_end, _lock
    _has_begun_to_end = False
    _lock = threading.RLock()
    for ending in _ending.values():
        ending.clear()
    for stage in reversed(Stage):
        for member in list(_forkable[stage]):
            _attempt(member.disown, member, "disowned")
    _set_signals(_signals)


def _set_signals(blocked: set[signal.Signals] | set[int]) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


atexit.register(end_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    # A fork waits until other threads have finished their changes of the registries, so that the
    # child gets a consistent copy.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
