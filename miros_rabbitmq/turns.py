"""A lock for what threads do one after the other, and which a signal handler never waits for.

Whoever cannot have the lock, because it has interrupted its holder or somebody who may be waited
for by its holder, leaves what it wants to do, and goes on. Whoever has the lock does that before
anything else that comes later. So nothing is lost, done twice or done out of order.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .interruption import has_interrupted, is_mine

T = TypeVar("T")

_PATIENCE_S = 0.1
"""How long the lock is waited for. It is held for microseconds, unless its holder is interrupted or
has to wait for an interrupted thread."""

MOST_LEFT = 1_000
"""The most events that are left to whoever is posting."""


class Turns(Generic[T]):
    """A lock, and what others want to do while they cannot have it.

    Use::

        if turns.is_interrupted():
            turns.leave(item)
            return
        try:
            if not turns.begin():
                turns.leave(item)
                return
            ...
        finally:
            try:
                if turns.left:
                    turns.catch_up()
            finally:
                try:
                    turns.lock.release()
                except RuntimeError:
                    pass  # it could not be had
        if turns.left:
            turns.catch_up_if_free()

    What happens seldom may be written as ``with turns.turn(): ...``, which waits as long as it
    takes. The long form is for each event: it releases the lock without a call of a Python
    function. An exception from the handler of a signal may come at the beginning of such a call,
    and the lock would be held for ever.

    Any thread may call any method.

    Args:
        do: does what was left, with the lock. If it is interrupted by an exception, it is called
            again with the same item, so it has to note what it has done.
    """

    def __init__(self, do: Callable[[T], object]) -> None:
        self._do = do
        self.left: deque[T] = deque()
        """What is still to be done. Whoever is let in does it first, by `catch_up`."""
        self._renew()

    def _renew(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        """Held by whoever's turn it is."""
        self._is_mine = is_mine(self.lock)

    def is_interrupted(self) -> bool:
        """Tell whether this thread has the lock, where the code around it does not take it.

        So this is the handler of a signal, which has interrupted whoever took it.
        """
        return self._is_mine() and not self._was_forgotten()

    def _was_forgotten(self) -> bool:
        """Let go of the lock if an exception has left it behind, such as KeyboardInterrupt."""
        if threading.get_ident() != threading.main_thread().ident or has_interrupted():
            return False
        while self._is_mine():
            self.lock.release()
        return True

    def begin(self) -> bool:
        """Take the lock; False if it cannot be had soon."""
        lock = self.lock
        return lock.acquire(False) or lock.acquire(timeout=_PATIENCE_S)

    def leave(self, item: T) -> None:
        """Have something done by whoever has the lock, or do it if nobody has it any more."""
        self.left.append(item)
        self.catch_up_if_free()

    def catch_up(self) -> None:
        """Do what was left, in order, if this thread has the lock."""
        if self._is_mine():
            while self.left:
                self._do(self.left[0])
                self.left.popleft()

    def catch_up_if_free(self) -> None:
        """Do what was left, unless somebody has the lock, who will do it."""
        # First it was left, then the lock is tried. Its holder does the reverse.
        while self.left and not self._is_mine():
            try:
                if not self.lock.acquire(blocking=False):
                    return
                self.catch_up()
            finally:
                try:  # noqa: SIM105 - without a call that could be interrupted
                    self.lock.release()
                except RuntimeError:
                    pass  # it could not be had

    @contextlib.contextmanager
    def turn(self, patience_s: float | None = None) -> Iterator[bool]:
        """Hold the lock; also for a thread that has it already.

        Args:
            patience_s: the longest wait for it, in seconds; without it, any time.

        Yields:
            whether it is held.
        """
        is_nested = self._is_mine()
        try:
            has_it = self.lock.acquire(timeout=-1 if patience_s is None else patience_s)
            if not is_nested:
                self.catch_up()
            yield has_it
            if not is_nested:
                self.catch_up()
        finally:
            try:  # noqa: SIM105 - without a call that could be interrupted
                self.lock.release()
            except RuntimeError:
                pass  # it could not be had
        if self.left:
            self.catch_up_if_free()

    def disown(self) -> None:
        """Forget what was left and who has the lock, in a forked child."""
        self.left.clear()
        self._renew()
