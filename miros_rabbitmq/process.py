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
import os
import signal
import threading
import time
import weakref
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


class EndsWithProgram(Protocol):
    """An object that has something to do before the program ends."""

    def ask_to_end(self) -> None:
        """Begin to end, without waiting, so that all objects of a stage end at the same time."""

    def end(self, began_s: float) -> None:
        """Wait for the end.

        Args:
            began_s: when the program began to end, by `time.monotonic`. A limit counts from here.
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
    """End every registered object, in the order of the stages. Python calls this at exit."""
    global _has_begun_to_end
    _has_begun_to_end = True
    began_s = time.monotonic()
    for stage in Stage:
        with _lock:
            members = list(_ending[stage])
        for member in members:
            _attempt(member.ask_to_end, member, "ended")
        for member in members:
            _attempt(functools.partial(member.end, began_s), member, "ended")


_MOST_EXITS = 8
"""So many handlers of signals may call ``sys.exit`` while an object ends."""


def _attempt(step: Callable[[], object], member: object, what: str) -> None:
    for _ in range(_MOST_EXITS):
        try:
            step()
        except SystemExit:
            # From the handler of a further signal. The program ends already, as that wants; the
            # object goes on from where it was.
            continue
        except Exception:
            # The others still have to be ended, or disowned.
            logger.exception("%r could not be %s", member, what)
        return


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
