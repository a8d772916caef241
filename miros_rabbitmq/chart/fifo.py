"""The FIFO of a networked chart: miros's own, made safe for posts from several threads at once.

miros's `LockingDeque` counts its items twice, in a deque and in a queue of wake-ups, and brings
the two in line after the fact. With several posting threads it can miscount, and a full one
replaces its newest item silently. This one does both steps under one lock, lets other threads wait
for place in a full one, and counts what it refuses.
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

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.1
"""How often a waiting post looks whether the chart's thread still lives."""


class ChartFifo(LockingDeque):  # type: ignore[misc]  # miros has no type hints
    """A drop-in for `miros.activeobject.LockingDeque`.

    Every method may be called from any thread; `wait` is for the chart's own.

    Args:
        capacity: most events it holds.
        name: the chart, for the log.
        timeout_s: how long a post waits for place in a full one, in seconds, while the chart's
            thread lives. Its own posts never wait: only that thread makes place.
    """

    def __init__(self, capacity: int, name: str, *, timeout_s: float = 10.0) -> None:
        # miros's constructor is not called: it would make the bounded parts this class replaces.
        self.deque: deque[Any] = deque()
        self._capacity = capacity
        self._name = name
        # The deque and its wake-ups change together, or a chart sleeps on an event.
        self._lock = threading.Lock()
        self._place_made = threading.Condition(self._lock)
        self._posts_waiting = 0
        self._timeout_s = timeout_s
        self._chart_thread: threading.Thread | None = None
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._is_overflowing = False
        self.dropped = 0
        """Events that were refused because it was full."""

    def wait(self, block: bool = True, timeout: float | None = None) -> None:
        """Wait for an event; it stays in the deque."""
        if self._chart_thread is None:
            self._chart_thread = threading.current_thread()
        self._wake_ups.get(block, timeout)

    get = wait

    def append(self, item: Any) -> None:
        """Put an event behind the others."""
        with self._lock:
            if self._has_place_for(item):
                self.deque.append(item)
                self._wake_ups.put(None)

    def appendleft(self, item: Any) -> None:
        """Put an event before the others."""
        with self._lock:
            if self._has_place_for(item):
                self.deque.appendleft(item)
                self._wake_ups.put(None)

    def popleft(self) -> Any:
        """Take the first event."""
        with self._lock:
            item = self.deque.popleft()
            if self._posts_waiting:
                self._place_made.notify()
            return item

    def pop(self) -> Any:
        """Take the last event."""
        with self._lock:
            item = self.deque.pop()
            if self._posts_waiting:
                self._place_made.notify()
            return item

    def clear(self) -> None:
        """Forget every event and its wake-up."""
        self._keep(lambda _: False)

    def forget_stops(self) -> None:
        """Make the FIFO of a stopped chart fit for a new start.

        miros leaves the event that ended the chart's thread in the deque, where it would end the
        next thread too.
        """
        self._chart_thread = None
        self._keep(lambda item: item.signal != signals.STOP_ACTIVE_OBJECT_SIGNAL)

    def _keep(self, wanted: Callable[[Any], bool]) -> None:
        with self._lock:
            kept = [item for item in self.deque if wanted(item)]
            self.deque.clear()
            self.deque.extend(kept)
            self._place_made.notify_all()
            with contextlib.suppress(Empty):
                while True:
                    self._wake_ups.get_nowait()
            for _ in kept:
                self._wake_ups.put(None)

    def qsize(self) -> int:
        """Wake-ups that were not waited for."""
        return self._wake_ups.qsize()

    def task_done(self) -> None:
        """Nothing joins this queue, so there is nothing to count."""

    def _has_place_for(self, item: Any) -> bool:
        if len(self.deque) < self._capacity:
            self._is_overflowing = False
            return True
        if item.signal == signals.STOP_ACTIVE_OBJECT_SIGNAL or self._wait_for_place():
            return True
        self.dropped += 1
        if not self._is_overflowing:
            self._is_overflowing = True
            logger.error(
                "the FIFO of %s is full with %d events: further posts are dropped until it has "
                "handled some",
                self._name,
                self._capacity,
            )
        return False

    def _wait_for_place(self) -> bool:
        """Wait, with the lock let go, while the chart makes place; whether it has."""
        chart_thread = self._chart_thread
        if chart_thread is None or chart_thread is threading.current_thread():
            return False
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
