"""The FIFO of a networked chart: miros's own, made safe for posts from several threads at once.

miros's `LockingDeque` keeps each event in a deque and a wake-up for it in a queue, and corrects the
number of wake-ups afterwards. With several posting threads it can miscount, and when it is full it
replaces its newest event without a word. `ChartFifo` changes both under one lock. When it is full,
other threads wait until the chart has taken an event, and events that are refused are counted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from miros import signals
from miros.activeobject import LockingDeque

from .. import process
from ..exceptions import MirosApiException
from ..nets.large_event import LargeEvent
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody
from ..wording import a_value_of

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE_S = 0.1
"""How long a post waits for the lock, which is held for microseconds."""

_IMPATIENCE_S = 1.0
"""For so long after it waited in vain, no post waits for the lock."""

_LOOK_AGAIN_S = 0.1
"""How often a waiting post checks that the chart's thread is still alive."""


class ChartFifo(LockingDeque):  # type: ignore[misc]  # miros has no type hints
    """Takes the place of `miros.activeobject.LockingDeque`.

    Any thread may call any method, except that only the chart's own thread calls `wait`.

    Args:
        capacity: the most events that it holds.
        name: the chart, for the log.
        timeout_s: how long a post to a full FIFO waits for room, in seconds. It gives up earlier
            when the chart's thread ends. The chart's own posts never wait, because nobody else
            makes room.
        must_not_wait: tells whether the calling thread must not wait for room. Such a thread posts
            remote events, and has asked for room before. If local posts have filled the FIFO in
            between, its few events go in all the same. Called only when the FIFO is full, and with
            its lock held, so it must answer at once and post nothing.
        report: told of each event that is refused.
        on_wait: called when a post begins to wait, in the same way as ``must_not_wait``.
    """

    def __init__(
        self,
        capacity: int,
        name: str,
        *,
        timeout_s: float = 10.0,
        must_not_wait: Callable[[], bool] = lambda: False,
        report: Report = report_to_nobody,
        on_wait: Callable[[], object] = lambda: None,
    ) -> None:
        # miros's constructor would make the bounded deque and queue that this class replaces.
        self.deque: deque[Any] = deque()
        self._capacity = capacity
        self._name = name
        self._timeout_s = timeout_s
        self._must_not_wait = must_not_wait
        self._report = report
        self._on_wait = on_wait
        self._is_overflowing = False
        self._has_large = False
        self.taken: int = 0
        """How many events the chart has taken out; only its own thread counts."""
        self.dropped: int = 0
        """Events that were refused because the FIFO was full."""
        self._forget_threads()
        process.disown_in_child(self, process.Stage.CHARTS)

    def _forget_threads(self) -> None:
        # Held while the deque and its wake-ups change: they change together, or a chart would
        # sleep although an event waits. Reentrant: in the middle of a post, the handler of a
        # signal may stop the chart, or post.
        self._lock = threading.RLock()
        self._place_made = threading.Condition(self._lock)
        self._waits_again_s = 0.0
        self._posts_waiting = 0
        self._chart_thread: threading.Thread | None = None
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        for _ in self.deque:
            self._wake_ups.put(None)

    def disown(self) -> None:
        """Become usable in a forked child, where a thread of the parent may have held the lock."""
        self._forget_threads()

    def wait(self, block: bool = True, timeout: float | None = None) -> None:
        """Wait for an event, and leave it in the deque."""
        if self._chart_thread is None:
            self._chart_thread = threading.current_thread()
        self._wake_ups.get(block, timeout)

    get = wait

    def append(self, item: Any) -> None:
        """Put an event behind the others."""
        self._put(item, self.deque.append)

    def large_bytes(self) -> int:
        """How many bytes of memory the large events take that have come from the network.

        They are counted anew each time: so nothing has to be noted when one is taken out.
        """
        if not self._has_large:
            return 0
        self._has_large = False  # before the look: another thread may append one meanwhile
        sizes = [item.memory for item in self.deque.copy() if type(item) is LargeEvent]
        if sizes:
            self._has_large = True
        return sum(sizes)

    def appendleft(self, item: Any) -> None:
        """Put an event before the others."""
        self._put(item, self.deque.appendleft)

    def _put(self, item: Any, put: Callable[[Any], None]) -> None:
        if not hasattr(item, "signal"):  # the chart's thread would find it, and end
            raise MirosApiException(
                f"post_fifo and post_lifo take a miros Event, not {a_value_of(item)}"
            )
        lock = self._lock
        try:
            # Without the lock, an event too many may go in. That is better than to wait for its
            # holder: it may have been interrupted by the handler of a signal, which posts here, or
            # wait for the interrupted thread.
            has_lock = lock.acquire(False) or self._wait_for_lock()
            has_place = not has_lock or self._has_place_for(item)
            if has_place:
                if type(item) is LargeEvent:
                    self._has_large = True
                put(item)
                self._wake_ups.put(None)
            else:
                self.dropped += 1
        finally:
            # Not a `with`, as that would wait. The lock itself knows whether it is held.
            try:  # noqa: SIM105 - this is passed for each event
                lock.release()
            except RuntimeError:
                pass
        if not has_place:
            self._tell_refusal()

    def _wait_for_lock(self) -> bool:
        """Wait a moment for the lock, unless that was in vain just now: many events may come."""
        if time.monotonic() < self._waits_again_s:
            return False
        if self._lock.acquire(timeout=_PATIENCE_S):
            return True
        self._waits_again_s = time.monotonic() + _IMPATIENCE_S
        return False

    def popleft(self) -> Any:
        """Take the first event."""
        item = self.deque.popleft()
        self.taken += 1
        self._tell_of_place()
        return item

    def pop(self) -> Any:
        """Take the last event."""
        item = self.deque.pop()
        self.taken += 1
        self._tell_of_place()
        return item

    def _tell_of_place(self) -> None:
        # Does not wait for the lock: a handler of a signal may wait for the chart's thread in the
        # middle of a post. Who waits for place looks again soon.
        if self._posts_waiting and self._lock.acquire(blocking=False):
            try:
                self._place_made.notify()
            finally:
                self._lock.release()

    def clear(self) -> None:
        """Forget every event, and its wake-up."""
        self._remove(lambda _: True)

    def forget_stops(self) -> None:
        """Prepare the FIFO of a stopped chart for a new start.

        miros leaves the event that ended the chart's thread in the deque. There it would end the
        next thread too.
        """
        self._chart_thread = None
        self._remove(lambda item: item.signal == signals.STOP_ACTIVE_OBJECT_SIGNAL)

    def _remove(self, unwanted: Callable[[Any], bool]) -> None:
        with self._lock:
            # One by one: the handler of a signal may post in between.
            for item in self.deque.copy():
                if unwanted(item):
                    self._remove_one(item)
            # Then as many wake-ups as events: the chart may have taken one of the two only, such as
            # when it stopped. A post that comes in between may leave one too many, which does no
            # harm.
            with contextlib.suppress(Empty):
                while self._wake_ups.qsize() > len(self.deque):
                    self._wake_ups.get_nowait()
            for _ in range(len(self.deque) - self._wake_ups.qsize()):
                self._wake_ups.put(None)
            self._place_made.notify_all()

    def _remove_one(self, item: Any) -> None:
        """Remove an event, unless the chart has taken it."""
        while True:
            try:
                self.deque.remove(_Same(item))
            except ValueError:
                return  # the chart has taken it
            except IndexError:
                continue  # the deque has changed meanwhile
            return

    def qsize(self) -> int:
        """How many wake-ups nobody has waited for yet."""
        return self._wake_ups.qsize()

    def task_done(self) -> None:
        """Do nothing: miros calls this after each event, but nothing joins this queue."""

    def _has_place_for(self, item: Any) -> bool:
        if len(self.deque) < self._capacity:
            self._is_overflowing = False
            return True
        is_stop = item.signal == signals.STOP_ACTIVE_OBJECT_SIGNAL
        return is_stop or self._wait_for_place()

    def _tell_refusal(self) -> None:
        """Say that an event was refused. Called without the lock, as a log may take its time."""
        if not self._is_overflowing:
            self._is_overflowing = True
            logger.error(
                "the FIFO of %s is full with %d events: further posts are dropped until it has "
                "handled some",
                self._name,
                self._capacity,
            )
        self._report(
            DeliveryProblem(
                ProblemKind.DROPPED,
                self._name,
                f"the FIFO of {self._name} is full with {self._capacity} events: posts are dropped",
                events=1,
            )
        )

    def _wait_for_place(self) -> bool:
        """Release the lock and wait until the chart makes room; return whether it has."""
        chart_thread = self._chart_thread
        if chart_thread is None or chart_thread is threading.current_thread():
            return False
        if self._must_not_wait():
            return True
        self._on_wait()
        deadline_s = time.monotonic() + self._timeout_s
        self._posts_waiting += 1
        try:
            while len(self.deque) >= self._capacity:
                rest_s = deadline_s - time.monotonic()
                if rest_s <= 0 or not chart_thread.is_alive():
                    return False
                self._place_made.wait(min(rest_s, _LOOK_AGAIN_S))
        finally:
            self._posts_waiting -= 1
        return True


class _Same:
    """Equals one object only. Events of miros equal each other."""

    __slots__ = ("_one",)

    def __init__(self, one: object) -> None:
        self._one = one

    def __eq__(self, other: object) -> bool:
        return other is self._one

    __hash__ = None  # type: ignore[assignment]
