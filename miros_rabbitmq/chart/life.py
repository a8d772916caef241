"""Decides between starts and stops of one chart, which several threads may ask for at once.

miros makes a chart's thread as the last step of a start, and only then knows of it. A stop that
comes earlier finds no thread to end. So a stop leaves a mark, and the start looks at it three
times: before the chart enters its first state, before its thread handles anything, and at the very
end, to clean up what was made in between. A start also waits until every other start is over, and
until the thread of the life before has ended.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from .. import process
from ..condition import Condition
from ..exceptions import MirosApiException

logger: logging.Logger = logging.getLogger(__name__)

LAST_HANDLER_S = 1.0
"""How long a program that ends waits for all charts that are in the middle of a handler."""


class Latch:
    """Opens once. Any thread may open it and wait for it, even in the handler of a signal.

    Nothing here takes a lock that an interrupted frame may hold: `SimpleQueue` can be used anew in
    the middle of its own methods.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def open(self) -> None:
        """Let all who wait go on."""
        if not self._is_open:
            self._is_open = True
            self._wakes.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is open, at most ``timeout`` seconds; tell whether it is."""
        if timeout is not None:
            # Python refuses longer ones, such as `math.inf`.
            timeout = min(max(0.0, timeout), threading.TIMEOUT_MAX)
        if self._is_open:
            return True
        with contextlib.suppress(Empty):
            try:
                self._wakes.get(timeout=timeout)
            finally:
                if self._is_open:
                    self._wakes.put(None)  # for the next who waits
        return self._is_open


class ChartLife:
    """The starts and stops of one chart, and its thread. Any thread may call any method.

    Args:
        name: the chart, for errors.
        may_run: while it is set, the chart's thread goes on after each event. miros sets it.
        wake: wakes the chart's thread, and does not wait for it.
        patience_s: how long a start waits for earlier starts and stops, and a stop for the handler
            that is running, in seconds.
    """

    def __init__(
        self,
        name: str,
        may_run: threading.Event,
        wake: Callable[[], object],
        patience_s: float,
    ) -> None:
        self.thread: threading.Thread | None = None
        """The chart's latest thread. The chart sets it."""
        self.initial_state: Any = None
        """The state in which the chart begins. The chart sets it."""
        self.is_resting: bool = False
        """Whether the chart's thread waits before the chart starts again."""
        self._name = name
        self._may_run = may_run
        self._wake = wake
        self._patience_s = patience_s
        self._changed = Condition()
        self._starter: threading.Thread | None = None
        self._stops: set[object] = set()
        self._must_end = False
        # Opens when the life that began last is over; `None` before the first.
        self._end: Latch | None = None
        self._ended_thread: threading.Thread | None = None
        process.disown_in_child(self, process.Stage.CHARTS)

    def __repr__(self) -> str:
        return f"<ChartLife of {self._name}>"

    @property
    def must_end(self) -> bool:
        """A stop has come since the last start."""
        return self._must_end

    @property
    def is_stopping(self) -> bool:
        """A stop is under way."""
        return len(self._stops) > 0

    @property
    def has_thread(self) -> bool:
        """The chart's thread is alive."""
        thread = self.thread
        return thread is not None and thread.is_alive()

    @property
    def handles_events(self) -> bool:
        """The chart's thread has begun, and has not noted its end. Cheap, as each event asks."""
        return self.thread is not self._ended_thread

    @property
    def is_starting(self) -> bool:
        """A start is under way."""
        return self._starter is not None

    @contextlib.contextmanager
    def starting(self) -> Iterator[bool]:
        """Start the chart in the body; it is entered when everything that began before is over.

        Returns:
            whether this is a new life; `False` if the chart is running already.

        Raises:
            MirosApiException: something that began before has taken longer than ``patience_s``, or
                the caller is the chart's own thread, which is ending.
        """
        is_within = self._starter is threading.current_thread()
        try:
            if not is_within:
                self._begin()
            process.end_with_program(self, process.Stage.CHARTS)
            yield not self.has_thread
        finally:
            if not is_within and self._starter is threading.current_thread():
                with self._changed.lock:
                    self._starter = None
                    self._changed.notify_all()

    def _begin(self) -> None:
        deadline_s = time.monotonic() + self._patience_s
        while not self._may_begin(deadline_s):
            thread = self.thread
            if thread is threading.current_thread():
                raise MirosApiException(
                    f"{self._name} was stopped, and its own thread cannot start it again: call "
                    "start_at from another thread"
                )
            if time.monotonic() >= deadline_s:
                raise MirosApiException(
                    f"{self._name} cannot start: for {self._patience_s:g} s another thread has "
                    "been starting or stopping it, or its former thread has not ended. Is there a "
                    "handler that does not return?"
                )
            if thread is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def _may_begin(self, deadline_s: float) -> bool:
        with self._changed.lock:
            if self.thread is not threading.current_thread():
                rest_s = max(0.0, deadline_s - time.monotonic())
                self._changed.wait_for(lambda: not (self._starter or self._stops), rest_s)
            if self._starter or self._stops or (self._must_end and self.has_thread):
                return False
            self._starter = threading.current_thread()
            self._must_end = False
            if not self.has_thread:
                self._end = Latch()
            return True

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Stop the chart in the body. No start begins until it is left."""
        stop = object()
        try:
            with self._changed.lock:
                self._stops.add(stop)
                self._must_end = True
                self._changed.notify_all()
            yield
            process.stay(self, process.Stage.CHARTS)
        finally:
            with self._changed.lock:
                self._stops.discard(stop)
                self._open_if_over()
                self._changed.notify_all()

    def note_end_of_thread(self) -> None:
        """Note that the chart's thread handles nothing more. Called in it, as the last step."""
        with self._changed.lock:
            self._ended_thread = threading.current_thread()
            self._open_if_over()

    def _open_if_over(self) -> None:
        """Let those go on who wait for the end. Called with the lock."""
        if self._end is None or not self._must_end or self._stops:
            return
        # A stop in a handler is over before the handler is.
        if self._ended_thread is self.thread or self.thread is not threading.current_thread():
            self._end.open()

    def wait_for_end(self, timeout: float | None) -> bool:
        """Wait until the chart has stopped; at most ``timeout`` seconds.

        Returns:
            whether it has.

        Raises:
            MirosApiException: it was never started, or this is its own thread.
        """
        end = self._end
        if end is None:
            raise MirosApiException(f"{self._name} was not started: call start_at first")
        if self.thread is threading.current_thread():
            raise MirosApiException(
                f"{self._name} cannot wait for its own end in its own thread: call wait from "
                "another, such as the main thread"
            )
        return end.wait(timeout)

    def rest(self, seconds: float) -> None:
        """Wait for so many seconds, or until a stop comes."""
        self.is_resting = True
        with self._changed.lock:
            self._changed.wait_for(lambda: self._must_end, seconds)
        self.is_resting = False

    def end_thread(self) -> None:
        """Have the chart handle no further event, and wait until its thread has ended.

        Gives up after ``patience_s``: the handler that is running may never return. It may even
        wait for the caller, if that is a signal handler in the middle of a `transmit`. The chart's
        own thread does not wait: it ends when its handler has returned.
        """
        self._end_handling()
        self._join(self._patience_s)
        if self.has_thread and self.thread is not threading.current_thread():
            logger.warning(
                "%s: a handler has not returned within %g s of the stop; its thread is left behind",
                self._name,
                self._patience_s,
            )

    def ask_to_end(self) -> None:
        """Have a chart that nobody has stopped handle no further event: the program ends."""
        with self._changed.lock:
            self._must_end = True
            self._changed.notify_all()
        self._end_handling()

    def end(self, began_s: float) -> None:
        """Wait for the handler that is running, until `LAST_HANDLER_S` after ``began_s``."""
        self._join(max(0.0, began_s + LAST_HANDLER_S - time.monotonic()))

    def _end_handling(self) -> None:
        self._may_run.clear()
        if self.has_thread:
            self._wake()

    def _join(self, timeout: float) -> None:
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def disown(self) -> None:
        """Forget starts and stops that are under way: in a forked child, they are the parent's."""
        self._changed = Condition()  # the thread that held the old one is not here
        self._ended_thread = self.thread
        self._starter = None
        self._stops = set()
        self._end = None
