"""Where received events go: to a callback that returns at once, or to one that has its own thread.

The callback of a chart's FIFO is called in the reactor's thread. A callback of the user may take
its time, so it is called in a worker's thread: a slow callback holds up nothing but its own events.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..failures import LOGGED_AGAIN_S, OnRaise, Pace, call
from ..limits import Limits
from ..logs import RelayedLogger
from ..whereabouts import Activity, place_in, place_of
from ..wire.envelope import MESH, Envelope
from ..worker import Worker
from .receiver import Ticket

logger: RelayedLogger = RelayedLogger(__name__)

_MOST_WAITING = 512
"""The most events that wait for a callback in its worker: as many as one message holds. Others wait
in messages that are not acknowledged, and then at the broker."""

DEFAULT_MOST_BYTES = Limits().fifo_remote_bytes

_NOTHING = object()
"""Stands in a queue for the ticket of a message alone."""


class _Item(NamedTuple):
    """What waits for a callback."""

    event: Any
    ticket: SharedTicket | None
    number: int


class Sink(Protocol):
    """Takes events in the reactor's thread."""

    def room(self) -> int:
        """How many events it can take now."""

    def begin(self) -> SharedTicket | None:
        """Begin a message; returns `None` if each event of it is handled when `put` returns."""

    def put(self, event: Any, ticket: SharedTicket | None, memory: int = 0) -> None:
        """Take an event of a message.

        Args:
            event: what to take.
            ticket: that of its message.
            memory: how many bytes of memory it takes; 0 for a small one, which only counts as one.
        """

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
        self._callback = callback
        self._on_raise = _logging(name)
        self.room: Callable[[], int] = room or _any_number

    def begin(self) -> None:
        """Return no ticket: events are handled when `put` returns."""

    def put(self, event: Any, ticket: SharedTicket | None, memory: int = 0) -> None:
        """Call back."""
        call(self._callback, event, self._on_raise)

    def follow(self, ticket: SharedTicket) -> None:
        """All that was put before is handled."""


class WorkerSink:
    """Calls back in a thread of its own, one event after the other; any thread may watch it.

    Args:
        name: of the thread.
        callback: takes an event, in its own time.
        room: how many events it can take now; default any number.
        most_bytes: no further event is taken while large ones that wait take this much memory.
        on_raise: takes what the callback raises, in its thread. Default: it is logged.
    """

    def __init__(
        self,
        name: str,
        callback: Callable[[Any], object],
        room: Callable[[], int] | None = None,
        most_bytes: int = DEFAULT_MOST_BYTES,
        on_raise: OnRaise | None = None,
    ) -> None:
        self.name = name
        self._callback = callback
        self._on_raise = on_raise or _logging(name)
        self._callback_room = room or _any_number
        self._most_bytes = most_bytes
        self._worker: Worker[_Item] = Worker(name, self._handle, max_items=2 * _MOST_WAITING)
        # What each large event that waits or is being handled takes, by the number of its put.
        self._large: dict[int, int] = {}
        self._put = self._begun = 0
        self._event: Any = None
        self._thread_id: int | None = None

    def room(self) -> int:
        """How many events it can take now."""
        # The list is made in one step, while the worker's thread may change the mapping.
        if self._large and sum(list(self._large.values())) >= self._most_bytes:
            return 0
        return min(_MOST_WAITING, self._callback_room()) - self._worker.unhandled

    def begin(self) -> SharedTicket:
        """Begin a message."""
        return SharedTicket()

    def put(self, event: Any, ticket: SharedTicket | None, memory: int = 0) -> None:
        """Make the worker call back."""
        if ticket is not None:
            ticket.add()
        self._put += 1
        if memory:
            self._large[self._put] = memory
        self._worker.put(_Item(event, ticket, self._put))

    def follow(self, ticket: SharedTicket) -> None:
        """Have a message wait until every event that was put before it is handled."""
        self.put(_NOTHING, ticket)

    # What it is doing, for who watches it.

    is_stuck_text = "has not returned"

    def begun(self) -> int:
        """How many events it has begun to call back for."""
        return self._begun

    def waiting(self) -> int:
        """How many events wait, without the one for which the callback is called now."""
        return self._put - self._begun

    def is_in_the_way(self) -> bool:
        """Whether the callback is being called."""
        return self._event is not None

    def activity(self) -> Activity:
        """What the callback is doing now."""
        event = self._event
        signal = event.body[0] if isinstance(event, Envelope) and event.network == MESH else ""
        return Activity(signal=signal, at=place_of(self._thread_id))

    # Life.

    def stop(self, timeout: float) -> None:
        """Call back for what waits, and end the thread; give up after ``timeout`` seconds.

        What is given up is logged, and never called back.
        """
        left = self._worker.stop(timeout)
        if left:
            self._large.clear()
            self._begun = self._put
            logger.warning(
                "%s: stopped while a callback was running; received before and not handed over: %d",
                self.name,
                left,
            )

    def _handle(self, items: deque[_Item], _dropped: int) -> None:
        self._thread_id = threading.get_ident()
        while items:
            event, ticket, number = items.popleft()
            self._begun = number
            if event is not _NOTHING:
                self._event = event
                call(self._callback, event, self._on_raise)
                self._event = None
            if self._large:
                self._large.pop(number, None)
            if ticket is not None:
                ticket.give_back()


def _logging(name: str) -> OnRaise:
    pace = Pace(LOGGED_AGAIN_S)

    def log(error: BaseException) -> None:
        key = (type(error).__qualname__, place_in(error.__traceback__))
        count = pace.note(key)
        if count is not None:
            again = f" (and {count:,} times since it was logged last)" if count else ""
            text = "%s: the callback for received messages raised%s"
            logger.error(text, name, again, exc_info=error)

    return log


def _any_number() -> int:
    return 1 << 30
