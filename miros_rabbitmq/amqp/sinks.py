"""Where received events go: to a callback that returns at once, or to one that has its own thread.

The callback of a chart's FIFO is called in the reactor's thread. A callback of the user may take
its time, so it is called in a worker's thread: a slow callback holds up nothing but its own events.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..logs import RelayedLogger
from ..worker import Worker
from .receiver import Ticket

logger = RelayedLogger(__name__)

_MOST_WAITING = 512
"""The most events that wait for a callback in its worker: as many as one message holds. Others wait
in messages that are not acknowledged, and then at the broker."""

_NOTHING = object()
"""Stands in a queue for the ticket of a message alone."""


class Sink(Protocol):
    """Takes events in the reactor's thread."""

    def room(self) -> int:
        """How many events it can take now."""

    def begin(self) -> SharedTicket | None:
        """Begin a message; returns `None` if each event of it is handled when `put` returns."""

    def put(self, event: Any, ticket: SharedTicket | None) -> None:
        """Take an event of a message."""

    def follow(self, ticket: SharedTicket) -> None:
        """Have a message wait until every event that was put before it is handled."""


class SharedTicket(Ticket):
    """The ticket of a message with several events, which is finished after the last.

    It begins with one share, for the code that hands out the events.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._shares = 1

    def add(self) -> None:
        """Note that another event of the message is being handled."""
        with self._lock:
            self._shares += 1

    def give_back(self) -> None:
        """Note that an event was handled, or that no more come. Any thread may call this."""
        with self._lock:
            self._shares -= 1
            is_last = self._shares == 0
        if is_last:
            self.finish()


class DirectSink:
    """Calls back at once, in the reactor's thread.

    Args:
        name: who receives, for the log.
        callback: takes an event, and returns at once.
        room: how many events it can take now; default any number.
    """

    def __init__(
        self,
        name: str,
        callback: Callable[[Any], object],
        room: Callable[[], int] | None = None,
    ) -> None:
        self._name = name
        self._callback = callback
        self.room = room or _any_number

    def begin(self) -> None:
        """Return no ticket: events are handled when `put` returns."""

    def put(self, event: Any, ticket: SharedTicket | None) -> None:
        """Call back."""
        _call(self._name, self._callback, event)

    def follow(self, ticket: SharedTicket) -> None:
        """All that was put before is handled."""


class WorkerSink:
    """Calls back in a thread of its own, one event after the other.

    Args:
        name: of the thread.
        callback: takes an event, in its own time.
        room: how many events it can take now; default any number.
    """

    def __init__(
        self,
        name: str,
        callback: Callable[[Any], object],
        room: Callable[[], int] | None = None,
    ) -> None:
        self._name = name
        self._callback = callback
        self._callback_room = room or _any_number
        self._worker: Worker[tuple[Any, SharedTicket | None]] = Worker(
            name, self._handle, max_items=2 * _MOST_WAITING
        )

    def room(self) -> int:
        """How many events it can take now."""
        return min(_MOST_WAITING, self._callback_room()) - self._worker.unhandled

    def begin(self) -> SharedTicket:
        """Begin a message."""
        return SharedTicket()

    def put(self, event: Any, ticket: SharedTicket | None) -> None:
        """Make the worker call back."""
        if ticket is not None:
            ticket.add()
        self._worker.put((event, ticket))

    def follow(self, ticket: SharedTicket) -> None:
        """Have a message wait until every event that was put before it is handled."""
        self.put(_NOTHING, ticket)

    def stop(self, timeout: float) -> None:
        """Call back for what waits, and end the thread; give up after ``timeout`` seconds.

        What is given up is logged, and never called back.
        """
        left = self._worker.stop(timeout)
        if left:
            logger.warning(
                "%s: stopped while a callback was running; %d more received before were not handed "
                "over",
                self._name,
                left,
            )

    def _handle(self, items: deque[tuple[Any, SharedTicket | None]], _dropped: int) -> None:
        while items:
            event, ticket = items.popleft()
            if event is not _NOTHING:
                _call(self._name, self._callback, event)
            if ticket is not None:
                ticket.give_back()


def _call(name: str, callback: Callable[[Any], object], event: Any) -> None:
    try:
        callback(event)
    except BaseException:  # even SystemExit must not end this thread
        logger.exception("%s: the callback for received messages raised", name)


def _any_number() -> int:
    return 1 << 30
