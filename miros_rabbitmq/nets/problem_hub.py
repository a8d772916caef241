"""Tells the user's ``on_delivery_problem`` what others report of delivery.

Reports come from any thread, perhaps thousands a second. `PendingProblems` keeps what was not told
yet: one entry for each kind, network and subject. `ProblemHub` calls the callback in a thread of
its own, so that whoever reports never waits for the user's code.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from ..condition import Condition
from ..failures import OnRaise, call
from ..problems import DeliveryProblem, ProblemKind
from ..process import Stage, disown_in_child
from ..worker import Worker

logger: logging.Logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0
"""The least time between two calls for the same kind, network and subject."""

_MOST_SUBJECTS = 256
"""The most kinds, networks and subjects that wait to be told. Each takes about
1 kB."""

_Key = tuple[ProblemKind, str, str]


class PendingProblems:
    """The problems that were reported and not told yet.

    Problems of the same kind, network and subject are joined: the newer text stands for both, and
    the events are summed. A problem that has begun and ended meanwhile is told as two. One that
    ends and begins again, or begins, ends and begins, is told as it stands in the end.

    Pure and not thread-safe; the clock is handed in.

    Args:
        most_subjects: the most kinds, networks and subjects that wait; beyond it, the oldest go.
        interval_s: seconds between two times that the same kind, network and subject are told.
    """

    def __init__(
        self, most_subjects: int = _MOST_SUBJECTS, interval_s: float = _INTERVAL_S
    ) -> None:
        self._most_subjects = most_subjects
        self._interval_s = interval_s
        # In the order in which they began to wait: when they may be told, and what.
        self._waiting: OrderedDict[_Key, tuple[float, tuple[DeliveryProblem, ...]]] = OrderedDict()
        # When those that were told lately may be told again, the oldest first.
        self._rested_s: OrderedDict[_Key, float] = OrderedDict()
        self._dropped = 0

    def __len__(self) -> int:
        return sum(len(problems) for _, problems in self._waiting.values())

    @property
    def next_due_s(self) -> float | None:
        """The time at which the next one may be told; `None` if none waits."""
        return min((due_s for due_s, _ in self._waiting.values()), default=None)

    def add(self, problem: DeliveryProblem, now_s: float) -> float:
        """Note a problem.

        Args:
            problem: what was reported.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            when it may be told.
        """
        key = (problem.kind, problem.network, problem.subject)
        if key in self._waiting:
            due_s, problems = self._waiting[key]
            self._waiting[key] = due_s, _joined(problems, problem)
            return due_s
        due_s = self._rested_s.pop(key, now_s)
        self._waiting[key] = due_s, (problem,)
        if len(self._waiting) > self._most_subjects:
            _, (_, gone) = self._waiting.popitem(last=False)
            self._dropped += len(gone)
        return due_s

    def take(self, now_s: float, *, everything: bool = False) -> tuple[DeliveryProblem, ...]:
        """Take the next problem that may be told.

        Args:
            now_s: the time of a monotonic clock, in seconds.
            everything: whether to take also one that was told only just now.

        Returns:
            one problem, or its begin and its end, or nothing.
        """
        while self._rested_s and next(iter(self._rested_s.values())) <= now_s:
            self._rested_s.popitem(last=False)
        for key, (due_s, problems) in self._waiting.items():
            if everything or due_s <= now_s:
                del self._waiting[key]
                self._rested_s[key] = now_s + self._interval_s
                if len(self._rested_s) > self._most_subjects:
                    self._rested_s.popitem(last=False)
                return problems
        return ()

    def take_dropped(self) -> int:
        """How many problems went untold to make room for others since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped


def _joined(
    problems: tuple[DeliveryProblem, ...], newer: DeliveryProblem
) -> tuple[DeliveryProblem, ...]:
    """Put a problem behind one, or an end and a begin, of the same subject: two at most."""
    last = problems[-1]
    if newer.is_over == last.is_over:
        return (*problems[:-1], newer._replace(events=last.events + newer.events))
    if len(problems) == 1:
        return (*problems, newer)
    # It ended and began again, or the other way round: what is told last is how it stands.
    return (newer._replace(events=sum(each.events for each in (*problems, newer))),)


class ProblemHub:
    """Takes reports, and tells the user of them.

    Every method may be called from any thread. Nothing is taken before `open`.

    Args:
        name: the name of the chart.
        callback: the user's ``on_delivery_problem``; `None` to drop every report. It is called in
            one thread, in order. A burst is told at once, and then once a second at most for each
            kind, network and subject.
        on_raise: takes what the callback raises, in its thread.
        pending: keeps what waits.
    """

    def __init__(
        self,
        name: str,
        callback: Callable[[DeliveryProblem], object] | None,
        on_raise: OnRaise,
        pending: Callable[[], PendingProblems] = PendingProblems,
    ) -> None:
        self._name = name
        self._callback = callback
        self._on_raise = on_raise
        self._new_pending = pending
        # What it is woken with says nothing: the thread looks at what is pending.
        self._worker: Worker[None] = Worker(
            f"on_delivery_problem of {name}", self._tell_all, max_items=1
        )
        self._forget()
        disown_in_child(self, Stage.WORKERS)

    def _forget(self) -> None:
        # Guards all that follows; notified when the thread has to look. Reentrant: in the middle of
        # a report, the handler of a signal may report.
        self._changed = Condition()
        self._pending = self._new_pending()
        # The thread looks at what is pending by then; `None` if it has to be woken by an item.
        self._looks_at_s: float | None = None
        self._is_open = False
        self._is_ending = False

    def open(self) -> None:
        """Take reports from now on."""
        with self._changed.lock:
            self._is_open = self._callback is not None
            self._is_ending = False

    def report(self, problem: DeliveryProblem) -> None:
        """Have the user told of a problem; returns at once and never raises."""
        if not self._is_open:
            return
        with self._changed.lock:
            if not self._is_open:
                return
            due_s = self._pending.add(problem, time.monotonic())
            if self._looks_at_s is None:
                self._worker.put(None)
            elif due_s < self._looks_at_s:
                self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Tell what waits, and end the thread; give up after ``timeout`` seconds.

        Nothing is told after this has returned, except for a call that is under way. What is given
        up is logged with its number. In the callback itself, this does not wait.
        """
        with self._changed.lock:
            self._is_open = False
            self._is_ending = True
            self._changed.notify_all()
        self._worker.stop(timeout)
        with self._changed.lock:
            left = len(self._pending)
            self._pending = self._new_pending()
        if left:
            logger.warning(
                "%s: stopped while on_delivery_problem was running; %d more were not told",
                self._name,
                left,
            )

    # The worker's thread.

    def _tell_all(self, wakes: deque[None], _dropped: int) -> None:
        wakes.clear()
        while problems := self._wait_for_next():
            for problem in problems:
                self._tell(problem)

    def _wait_for_next(self) -> tuple[DeliveryProblem, ...]:
        """The next to tell, when it is due; nothing if none is left."""
        with self._changed.lock:
            dropped = self._pending.take_dropped()
            if dropped:
                logger.warning(
                    "%s: on_delivery_problem is too slow, or there are too many: %d not told",
                    self._name,
                    dropped,
                )
            while True:
                now_s = time.monotonic()
                problems = self._pending.take(now_s, everything=self._is_ending)
                if problems:
                    self._looks_at_s = now_s  # at once, when these are told
                    return problems
                self._looks_at_s = self._pending.next_due_s
                if self._looks_at_s is None:
                    return ()
                self._changed.wait(self._looks_at_s - now_s)

    def _tell(self, problem: DeliveryProblem) -> None:
        assert self._callback is not None
        call(self._callback, problem, self._on_raise)

    def disown(self) -> None:
        """Forget what the parent has not told, in a forked child."""
        self._forget()
