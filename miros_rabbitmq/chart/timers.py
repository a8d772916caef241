"""The timers of a networked chart, in the place of miros's ``posted_events_queue``.

miros notes there each timer that ``post_fifo`` or ``post_lifo`` makes for a `period`, and takes it
out only when it is cancelled. So those that had ended by themselves would fill it: the 501st timer
of a chart's life, however seldom they come, would raise an error and end the chart. `Timers`
forgets a timer that has ended. 500 that run at once are still the limit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from .. import process
from ..failures import OnRaise, call

logger: logging.Logger = logging.getLogger(__name__)


class Timers(deque[Any]):
    """The timers of a chart that are running, as miros notes them. Any thread may call any method.

    Args:
        most: the most that may run; beyond that miros raises an error where the next is made.
        name: the chart, for the log.
    """

    def __init__(self, most: int, name: str) -> None:
        super().__init__()
        self._most = most
        self._name = name
        self._is_full = False
        self._renew_lock()
        process.disown_in_child(self, process.Stage.CHARTS)

    # Compared by identity, as those who have to forget something after a fork are in a set.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # type: ignore[assignment]  # of a deque it is None

    def _renew_lock(self) -> None:
        # Reentrant: the handler of a signal may post or cancel at any point. So each timer is taken
        # out and put back by itself, and none is in a list that is put back as a whole.
        self._lock = threading.RLock()

    def disown(self) -> None:
        """Forget everything in a forked child: the threads of these timers are the parent's."""
        self._renew_lock()
        self.clear()

    def append(self, timer: Any) -> None:
        """Note a timer; miros calls this."""
        with self._lock:
            super().append(timer)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over those that are noted now, also while this changes."""
        with self._lock:
            return iter([*super().__iter__()])

    def __len__(self) -> int:
        """How many are running. miros asks before it adds one."""
        self._remove(lambda timer: not timer.task_run_event.is_set())
        running = super().__len__()
        if running < self._most:
            self._is_full = False
        elif not self._is_full:
            self._is_full = True
            logger.error(
                "%s has %d timers running, and no more are allowed: the next post_fifo or "
                "post_lifo with a period raises an error. Cancel those that are not needed, such "
                "as in the exit handler of the state that made them",
                self._name,
                running,
            )
        return running

    def __bool__(self) -> bool:
        """Whether any is running. Before Python 3.11 a deque would not ask for the length."""
        return len(self) > 0

    def __repr__(self) -> str:
        # miros prints it when there are too many.
        return f"<Timers of {self._name}: {super().__len__()} noted>"

    def cancel(self, wanted: Callable[[Any], bool] = lambda _: True) -> None:
        """Stop the timers that ``wanted`` chooses, and forget them; without it, all."""
        for timer in self._remove(wanted):
            timer.task_run_event.clear()

    def _remove(self, wanted: Callable[[Any], bool]) -> list[Any]:
        removed = []
        with self._lock:
            for _ in range(super().__len__()):
                try:
                    timer = self.popleft()
                except IndexError:
                    break
                if wanted(timer):
                    removed.append(timer)
                else:
                    self.append(timer)
        return removed


class TimedPosts:
    """A chart as a timer sees it: an error that a post raises does not end the timer's thread.

    Args:
        chart: which the timer posts to.
        on_raise: returns what takes the errors of a method, by its name.
    """

    def __init__(self, chart: Any, on_raise: Callable[[str], OnRaise]) -> None:
        self._chart = chart
        self._on_raise = on_raise

    @property  # type: ignore[misc]  # miros asks the class for a limit
    def __class__(self) -> type:
        return type(self._chart)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chart, name)

    def post_fifo(self, event: Any) -> None:
        """Post an event; in the timer's thread."""
        call(self._chart.post_fifo, event, self._on_raise("post_fifo"))

    def post_lifo(self, event: Any) -> None:
        """Post an event before the others; in the timer's thread."""
        call(self._chart.post_lifo, event, self._on_raise("post_lifo"))
