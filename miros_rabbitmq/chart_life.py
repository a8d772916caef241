"""Whether a start of a chart has the say, or a stop: they may come from several threads at once.

miros makes a chart's thread at the end of its start, and notes it only then. A stop that comes
before finds nothing to end. So it leaves a mark here, at which the start looks: before the chart's
first state, before its thread handles anything, and at last, for what was made meanwhile. And a
start waits for the end of the life before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from .exceptions import MirosApiException


class ChartLife:
    """The starts and stops of one chart. Every method may be called from any thread.

    Args:
        name: the chart, for errors.
        thread: the chart's thread, or `None`.
        patience_s: how long a start waits for the end of the life before, in seconds.
    """

    def __init__(
        self, name: str, thread: Callable[[], threading.Thread | None], patience_s: float
    ) -> None:
        self._name = name
        self._thread = thread
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._stops: set[object] = set()
        self.must_end = False
        """A stop was asked for, and no start since."""

    @property
    def has_thread(self) -> bool:
        """The chart's thread lives."""
        thread = self._thread()
        return thread is not None and thread.is_alive()

    def begin(self) -> bool:
        """Begin a start, when every stop is over and the thread that they ended is gone.

        Returns:
            whether it is a new life; `False` where the chart runs already.

        Raises:
            MirosApiException: they were not in time, or it is that thread which calls.
        """
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
                    f"{self._name} was stopped and has not ended within {self._patience_s:g} s: a "
                    "handler that does not return holds its thread"
                )
            if thread is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self.has_thread

    def _may_begin(self, deadline_s: float) -> bool:
        with self._changed:
            if self._thread() is not threading.current_thread():
                rest_s = max(0.0, deadline_s - time.monotonic())
                self._changed.wait_for(lambda: not self._stops, rest_s)
            if self._stops or (self.must_end and self.has_thread):
                return False
            self.must_end = False
            return True

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """What is done within is a stop."""
        stop = object()
        with self._changed:
            self._stops.add(stop)
            self.must_end = True
        try:
            yield
        finally:
            with self._changed:
                self._stops.discard(stop)
                self._changed.notify_all()

    def disown(self) -> None:
        """Forget the stops that are under way, in a forked child: they are the parent's."""
        self._changed = threading.Condition()  # whoever held the old one does not exist here
        self._stops = set()
