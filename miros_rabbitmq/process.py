"""What this package does when the process forks, and when the program ends: one place, one order.

Objects register themselves here, weakly, with their place in the order. At the end of a program,
`Stage` by `Stage`, every registered object is first asked to end, so that all of them end at the
same time, and then waited for. All of them share one beginning, from which each counts its own
limit: ten charts that need a second each need one second together.

In a forked child nothing of the parent's is ended. The child has copies of all objects and none of
the threads, and a lock that was held at the fork stays held for ever. So every registered object
forgets what belongs to the parent, from the inside out: `Stage` by `Stage`, backwards.
"""

from __future__ import annotations

import atexit
import enum
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)


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
        """Begin to end; does not wait."""

    def end(self, began_s: float) -> None:
        """Wait for the end.

        Args:
            began_s: when the program began to end, as `time.monotonic` says it. Limits count from
                here.
        """


class Forkable(Protocol):
    """An object that is used anew in a forked child."""

    def disown(self) -> None:
        """Forget what belongs to the parent process: threads, connections, locks."""


# Held for each change of the two registries, and while a process forks.
_lock = threading.RLock()
_ending: dict[Stage, weakref.WeakSet[EndsWithProgram]] = {one: weakref.WeakSet() for one in Stage}
_forkable: dict[Stage, weakref.WeakSet[Forkable]] = {one: weakref.WeakSet() for one in Stage}


def end_with_program(member: EndsWithProgram, stage: Stage) -> None:
    """Have an object end before the program does; until `stay`, or until it is garbage."""
    with _lock:
        _ending[stage].add(member)


def stay(member: EndsWithProgram, stage: Stage) -> None:
    """Take `end_with_program` back: the object has ended by itself."""
    with _lock:
        _ending[stage].discard(member)


def disown_in_child(member: Forkable, stage: Stage) -> None:
    """Have an object forget its parent's things in every forked child, until it is garbage."""
    with _lock:
        _forkable[stage].add(member)


def end_all() -> None:
    """End everything that is registered, in the order of the stages. Called at exit."""
    began_s = time.monotonic()
    for stage in Stage:
        with _lock:
            members = list(_ending[stage])
        for member in members:
            _attempt(member.ask_to_end, member)
        for member in members:
            _attempt(functools.partial(member.end, began_s), member)


def _attempt(step: Callable[[], object], member: object) -> None:
    try:
        step()
    except Exception:
        # One that cannot end must not keep the others from it.
        logger.exception("%r could not be ended", member)


def _disown_all() -> None:
    global _lock
    _lock = threading.RLock()
    for stage in reversed(Stage):
        for member in list(_forkable[stage]):
            member.disown()
        _ending[stage].clear()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    # Nobody is amid a change of the registries when the child gets its copy of them.
    os.register_at_fork(
        before=lambda: _lock.acquire(),
        after_in_parent=lambda: _lock.release(),
        after_in_child=_disown_all,
    )


def in_forked_child(callback: Callable[[], object]) -> Callable[[], object]:
    """Have a function called in every forked child (until all users are registered objects)."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)
    return callback
