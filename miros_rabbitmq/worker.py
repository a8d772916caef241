"""A bounded queue, and a thread that handles its items, each time all that wait.

It is for work that a chart or a connection must not wait for, and of which the oldest may be
dropped when there is too much.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .condition import Condition
from .exceptions import OutOfResources
from .process import Stage, disown_in_child
from .resources import late_starts, start_thread

T = TypeVar("T")


class Worker(Generic[T]):
    """A queue and its thread.

    Every method may be called from any thread. The thread is a daemon. It starts with the
    first item, and ends at `stop` or when it was idle for too long. A later item starts another
    thread.

    Args:
        name: the name of the thread.
        handle: called in the thread with the items that wait, in order, and the number of items
            that were dropped since the last call. It takes the items out one by one, since `stop`
            may empty the queue meanwhile. It must not raise.
        max_items: the most items that wait; beyond it, the oldest is dropped.
        max_bytes: the most memory of the items that wait, as `put` is told; beyond it, the oldest
            are dropped, but never the newest. As much again may be with ``handle``.
        pause_s: seconds that the thread rests after each call, so that it is not woken for each of
            many items that come one by one.
        idle_s: seconds without an item after which the thread ends. Default: only `stop` ends it.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[deque[T], int], object],
        *,
        max_items: int,
        max_bytes: int | None = None,
        pause_s: float = 0.0,
        idle_s: float | None = None,
    ) -> None:
        self._name = name
        self._handle = handle
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._pause_s = pause_s
        self._idle_s = idle_s
        self._changed = Condition()
        self._forget()
        disown_in_child(self, Stage.WORKERS)

    def _forget(self) -> None:
        self._items: deque[T] = deque()
        # How many bytes each of these takes, if that is bounded, and their sum.
        self._sizes: deque[int] = deque()
        self._bytes = 0
        # The items that the thread is handling; `handle` takes them out one by one.
        self._running: deque[T] = deque()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._stop_asked = False
        # The thread waits for an item, and nobody has woken it.
        self._is_idle = False
        # How many items were put, and how many of these were handled or dropped.
        self._put = self._done = 0
        self._drains = 0

    def put(self, item: T, size: int = 0) -> Sequence[T]:
        """Have an item handled.

        Args:
            item: the item.
            size: how many bytes of memory it takes, if they are bounded.

        Returns:
            the items that were dropped to make room for it, mostly none.
        """
        dropped: Sequence[T] = ()
        with self._changed.lock:
            self._items.append(item)
            self._put += 1
            if self._max_bytes is not None:
                self._sizes.append(size)
                self._bytes += size
                if self._bytes > self._max_bytes:
                    dropped = self._make_room(self._max_bytes)
            if len(self._items) > self._max_items:
                dropped = [*dropped, self._drop_oldest()]
            if self._is_idle:
                self._is_idle = False
                self._changed.notify_all()
            elif self._thread is None:
                self._start()
            return dropped

    def _make_room(self, max_bytes: int) -> list[T]:
        dropped = []
        while self._bytes > max_bytes and len(self._items) > 1:
            dropped.append(self._drop_oldest())
        return dropped

    def _drop_oldest(self) -> T:
        if self._sizes:
            self._bytes -= self._sizes.popleft()
        self._dropped += 1
        self._done += 1
        return self._items.popleft()

    def _take_items(self) -> deque[T]:
        items, self._items = self._items, deque()
        self._sizes.clear()
        self._bytes = 0
        return items

    def _start(self) -> None:
        self._stop_asked = False
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            # First noted, then started: an exception between the two, such as KeyboardInterrupt,
            # must not lead to a second thread.
            self._thread = thread
            start_thread(thread)
        except OutOfResources as short:
            # Whoever comes by tries again, and so does the next item.
            self._thread = None
            late_starts.add(self, short)
        except BaseException:
            if thread.ident is None:
                self._thread = None  # it was not started
            raise

    def start_late(self) -> bool:
        """Start the thread that could not be started before; `LateStarts` calls this."""
        with self._changed.lock:
            if self._thread is None and self._items:
                self._start()
            return self._thread is not None or not self._items

    @property
    def unhandled(self) -> int:
        """How many items wait or are being handled."""
        return self._put - self._done

    def drain(self, timeout: float) -> bool:
        """Wait until all items that were put so far are handled; False after ``timeout`` seconds.

        Returns False at once in the worker's own thread, which would wait for itself.
        """
        if self._thread is threading.current_thread():
            return False
        with self._changed.lock:
            put = self._put
            self._drains += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._done >= put, timeout)
            finally:
                self._drains -= 1

    def stop(self, timeout: float) -> int:
        """Handle what waits, and end the thread; give up after ``timeout`` seconds.

        Items that are not handled by then never are: nothing is called after this has returned,
        except for a call that is under way. In the thread itself, this does not wait.

        Returns:
            how many items were given up; 0 if the thread has ended.
        """
        with self._changed.lock:
            if self._thread is None and self._items:
                self._start()  # once more: it could not be started before
            self._stop_asked = True
            thread = self._thread
            self._changed.notify_all()
            if thread is None:
                return self._give_up()
        if thread is not threading.current_thread():
            if thread.ident is not None:  # otherwise this interrupts its start
                thread.join(timeout)
            if not thread.is_alive():
                return 0
        with self._changed.lock:
            return self._give_up()

    def _give_up(self) -> int:
        left = len(self._items) + len(self._running)
        self._done += len(self._items)  # the thread counts those that it was handling
        self._take_items()
        self._running.clear()
        return left

    def handle_here(self) -> None:
        """Handle what waits in the calling thread, if no thread can be started for it."""
        with self._changed.lock:
            if self._thread is None and self._items:
                self._start()
            if self._thread is not None or not self._items:
                return
            items = self._take_items()
            dropped, self._dropped = self._dropped, 0
        count = len(items)
        self._handle(items, dropped)
        with self._changed.lock:
            self._done += count
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._handle_all()
        except BaseException:
            # Let the next item start another thread.
            with self._changed.lock:
                self._thread = None
                self._done = self._put - len(self._items)
                self._changed.notify_all()
            raise

    def _handle_all(self) -> None:
        while (taken := self._take()) is not None:
            items, dropped = taken
            count = len(items)
            self._handle(items, dropped)
            with self._changed.lock:
                self._done += count
                self._changed.notify_all()
                if self._pause_s:
                    self._changed.wait_for(lambda: self._stop_asked or self._drains, self._pause_s)

    def _take(self) -> tuple[deque[T], int] | None:
        with self._changed.lock:
            while not (self._items or self._stop_asked):
                self._is_idle = True
                if not self._changed.wait(self._idle_s) and self._is_idle:
                    break  # nothing came for too long
            self._is_idle = False
            if not self._items:
                self._thread = None
                return None
            items = self._running = self._take_items()
            dropped, self._dropped = self._dropped, 0
            return items, dropped

    def disown(self) -> None:
        """Become usable in a forked child, where the thread does not exist."""
        self._changed = Condition()
        self._forget()
