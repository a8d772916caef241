"""What a process can run out of: file descriptors, threads and memory.

The only place that tells such a shortage from other errors and words it. At the call that needs the
thing, it becomes an `OutOfResources`; in the background it is a failed attempt like another, tried
again after a pause.

A worker whose thread cannot be started has no thread that could try again. It registers with
`start_later`, and whoever has a thread and comes by, such as a reactor, calls `LateStarts.retry`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from .exceptions import OutOfResources
from .process import Stage, disown_in_child

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

FILES, THREADS, PROCESSES, MEMORY = "file descriptors", "threads", "processes", "memory"
ENDING = "threads at exit"
"""The values of `OutOfResources.what`. The last one: nothing is short, but Python starts no thread
any more, as the program is ending."""

_NO_MEMORY = frozenset({errno.ENOMEM, errno.ENOBUFS})
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, 10024})  # the last is Windows's WSAEMFILE
_NO_THREAD = "new thread"
"""A part of what Python says when it cannot start a thread, be it for a limit or at the end of the
program. It raises a ``RuntimeError`` for that, as for much else."""
_SHUTDOWN = "shutdown"
"""A part of what it says at the end of the program."""

RETRY_S = 1.0
"""The pause between two attempts to get what was not to be had."""


def shortage(error: BaseException, *, forks: bool = False) -> OutOfResources | None:
    """Word an error that says that something has run out.

    Args:
        error: any error.
        forks: whether it comes from an attempt to start a process. Only there, ``EAGAIN`` means
            that there may be no more.

    Returns:
        the error to raise; `None` if it is an error of another kind.
    """
    if isinstance(error, OutOfResources):
        return error
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number in _NO_MEMORY:
        return OutOfResources(_without_memory(), MEMORY)
    if number in _NO_FILES:
        return OutOfResources(_without_files(is_all=number == errno.ENFILE), FILES)
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        if _SHUTDOWN in str(error):
            return OutOfResources(_ENDING, ENDING)
        return OutOfResources(_without_threads(), THREADS)
    if forks and number == errno.EAGAIN:
        return OutOfResources(_without_processes(), PROCESSES)
    return None


@contextlib.contextmanager
def naming_shortage(*, forks: bool = False) -> Iterator[None]:
    """Raise `OutOfResources` in place of errors in the body that mean it; see `shortage`."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        short = shortage(error, forks=forks)
        if short is None or short is error:
            raise
        raise short from error


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        OutOfResources: it cannot be started.
    """
    with naming_shortage():
        thread.start()


def require_descriptors(count: int) -> None:
    """Make sure that some file descriptors are to be had now.

    For code of others that fails badly, or says nothing, if there are none.

    Raises:
        OutOfResources: there are not so many.
    """
    held: list[int] = []
    try:
        with naming_shortage():
            while len(held) < count:
                held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for one in held:
            os.close(one)


def file_limit() -> int | None:
    """How many file descriptors this process may have; `None` if that is not limited."""
    if resource is None:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _without_files(*, is_all: bool) -> str:
    if is_all:
        return (
            "the whole machine has no file descriptor left: find out which program has so many "
            "open (lsof), or raise the limit (as root: sysctl fs.file-max)"
        )
    limit = "all" if resource is None else f"all {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"
    return (
        f"this process has {limit} file descriptors open that it may have: close what it does not "
        "need, or raise the limit: ulimit -n in a shell, LimitNOFILE= in a systemd unit"
    )


_ENDING = "no thread can be started any more, because the program is ending"


def _without_threads() -> str:
    return (
        f"no thread can be started: this process has {threading.active_count():,}. Let some of "
        "them end, or raise the limit: ulimit -u in a shell, TasksMax= in a systemd unit, "
        "--pids-limit of a container; a thread also needs memory for its stack (ulimit -v)"
    )


def _without_processes() -> str:
    return (
        "no process can be started: this user, or this container, has as many as it may. Let some "
        "of them end, or raise the limit: ulimit -u in a shell, TasksMax= in a systemd unit, "
        "--pids-limit of a container"
    )


def _without_memory() -> str:
    used = ""
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mib = peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
        used = f": this process has used up to {mib:,.0f} MiB"
    return (
        f"no memory is to be had{used}. Transmit smaller events or lower the Limits, or raise the "
        "limit: ulimit -v in a shell, MemoryMax= in a systemd unit, --memory of a container"
    )


_AGAIN_S = 60.0
"""How long a shortage is no news, whoever suffers from it."""


class News:
    """Tells whether a shortage is news to the user. Any thread may ask.

    All connections and threads of a process suffer from the same shortage, at the same moment. The
    first says so, and the others at a lower level.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s: dict[str, float] = {}

    def is_news(self, short: OutOfResources) -> bool:
        """Whether nobody has asked about the same resource within `_AGAIN_S`."""
        now_s = self._clock()
        said_s = self._said_s.get(short.what)
        if said_s is not None and now_s - said_s < _AGAIN_S:
            return False
        self._said_s[short.what] = now_s
        return True

    def level(self, short: OutOfResources) -> int:
        """The level at which to log it."""
        if short.what == ENDING:
            return logging.DEBUG  # nobody can do anything about it
        return logging.WARNING if self.is_news(short) else logging.INFO

    def forget(self) -> None:
        """Forget what was said; for tests."""
        self._said_s.clear()


news: News = News()
"""That of this process."""


class StartsLate(Protocol):
    """Something whose thread could not be started."""

    def start_late(self) -> bool:
        """Try again, if that is still wanted; returns whether no further attempt is needed."""


class LateStarts:
    """Those whose threads could not be started. Any thread may call any method.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.is_any: bool = False
        """Whether there are some. It costs nothing to ask."""
        self._forget()
        disown_in_child(self, Stage.WORKERS)

    def _forget(self) -> None:
        # Reentrant, as the handler of a signal may need a thread.
        self._lock = threading.RLock()
        self._waiting: weakref.WeakSet[StartsLate] = weakref.WeakSet()
        self._again_s = 0.0
        self.is_any = False
        self.why: OutOfResources | None = None
        """Why the last start has failed."""

    def add(self, member: StartsLate, why: OutOfResources) -> None:
        """Have a start tried again."""
        with self._lock:
            self.why = why
            self._waiting.add(member)
            if not self.is_any:
                self._again_s = self._clock() + RETRY_S
            self.is_any = True

    def retry(self) -> bool:
        """Try all again, if `RETRY_S` has passed since the last attempt.

        Returns:
            whether that was done.
        """
        with self._lock:
            now_s = self._clock()
            if not self.is_any or now_s < self._again_s:
                return False
            self._again_s = now_s + RETRY_S
            waiting = list(self._waiting)
        # Without the lock, because a member that fails adds itself.
        for member in waiting:
            if member.start_late():
                with self._lock:
                    self._waiting.discard(member)
        with self._lock:
            self.is_any = len(self._waiting) > 0
        return True

    def disown(self) -> None:
        """Forget them in a forked child: they begin anew."""
        self._forget()


late_starts: LateStarts = LateStarts()
"""Those of this process."""
