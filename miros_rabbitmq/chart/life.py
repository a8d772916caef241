"""Which has the say over a chart, a start or a stop: they may come from several threads at once.

miros makes a chart's thread at the end of its start, and notes it only then. A stop that comes
before finds nothing to end. So it leaves a mark here, at which the start looks: before the chart's
first state, before its thread handles anything, and at last, for what was made meanwhile. And a
start waits for every other, and for the end of the life before.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from ..exceptions import MirosApiException
from ..process import in_forked_child


class ChartLife:
    """The starts and stops of one chart. Every method may be called from any thread.

    Args:
        name: the chart, for errors.
        thread: the chart's thread, or `None`.
        patience_s: how long a start waits for what began before it, in seconds.
    """

    def __init__(
        self, name: str, thread: Callable[[], threading.Thread | None], patience_s: float
    ) -> None:
        self._name = name
        self._thread = thread
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._starter: threading.Thread | None = None
        self._stops: set[object] = set()
        self._must_end = False
        _lives.add(self)

    @property
    def must_end(self) -> bool:
        """A stop was asked for, and no start since."""
        return self._must_end

    @property
    def has_thread(self) -> bool:
        """The chart's thread lives."""
        thread = self._thread()
        return thread is not None and thread.is_alive()

    @contextlib.contextmanager
    def starting(self) -> Iterator[bool]:
        """What is done within is a start; it begins when all is over that began before.

        Returns:
            whether it is a new life; `False` where the chart runs already.

        Raises:
            MirosApiException: that was not in time, or it is the chart's own thread that calls, and
                ends.
        """
        is_within = self._starter is threading.current_thread()
        if not is_within:
            self._begin()
        try:
            yield not self.has_thread
        finally:
            if not is_within:
                with self._changed:
                    self._starter = None
                    self._changed.notify_all()

    def _begin(self) -> None:
        deadline_s = time.monotonic() + self._patience_s
        while not self._may_begin(deadline_s):
            thread = self._thread()
            if thread is threading.current_thread():
                raise MirosApiException(
                    f"{self._name} was stopped, and its own thread cannot start it again: call "
                    "start_at from another thread"
                )
            if time.monotonic() >= deadline_s:
                raise MirosApiException(
                    f"{self._name} is being started or stopped by another thread, or its own has "
                    f"not ended, and this takes longer than {self._patience_s:g} s: is there a "
                    "handler that does not return?"
                )
            if thread is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def _may_begin(self, deadline_s: float) -> bool:
        with self._changed:
            if self._thread() is not threading.current_thread():
                rest_s = max(0.0, deadline_s - time.monotonic())
                self._changed.wait_for(lambda: not (self._starter or self._stops), rest_s)
            if self._starter or self._stops or (self._must_end and self.has_thread):
                return False
            self._starter = threading.current_thread()
            self._must_end = False
            return True

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """What is done within is a stop."""
        stop = object()
        with self._changed:
            self._stops.add(stop)
            self._must_end = True
        try:
            yield
        finally:
            with self._changed:
                self._stops.discard(stop)
                self._changed.notify_all()

    def _disown(self) -> None:
        """Forget what is under way, in a forked child: it is the parent's."""
        self._changed = threading.Condition()  # whoever held the old one does not exist here
        self._starter = None
        self._stops = set()


_lives: weakref.WeakSet[ChartLife] = weakref.WeakSet()


@in_forked_child
def _disown_all() -> None:
    for life in list(_lives):
        life._disown()
