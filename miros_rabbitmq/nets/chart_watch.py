"""Watches whether a chart, or a callback of the user, takes the events that come for it.

A handler that does not return stops its chart: events wait in the FIFO, then in messages that are
not acknowledged, then at the broker, which drops the oldest when the queue is full. A `ChartWatch`
looks about once a second while something waits. It says which handler it is and where its thread
is, at growing intervals, and says when it has returned. It also says that the queue is nearly full.

It has no thread: the receiver of the network looks, in the reactor's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ..delivery.filling import Filling
from ..delivery.progress import Progress, Repetition, Verdict
from ..limits import Limits
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody
from ..whereabouts import Activity

logger: RelayedLogger = RelayedLogger(__name__)

_KIB, _MIB = 1024, 1024 * 1024


class Busy(Protocol):
    """What handles events one by one, in a thread of its own: a chart, or a callback.

    Any thread may call its methods, and all return at once.
    """

    name: str
    """The name of the chart, or which callback of which chart."""

    @property
    def is_stuck_text(self) -> str:
        """What to say of it if it does not get on, between its name and the time."""

    def begun(self) -> int:
        """How many events it has begun to handle."""

    def waiting(self) -> int:
        """How many events wait for it."""

    def is_in_the_way(self) -> bool:
        """Whether messages may be held because of it even when no event waits for it."""

    def activity(self) -> Activity:
        """What it is doing now."""


class Stuck(NamedTuple):
    """A handler or callback that does not return, while events wait for it."""

    name: str
    """The name of the chart, or which callback of which chart."""
    signal: str
    """The signal that it handles; empty if it is none."""
    state: str
    """The state in which the chart was when the signal came; empty for a callback."""
    at: str
    """Where its thread is: file, line and function; empty if the thread has ended."""
    seconds: float
    """For at least so long."""
    waiting: int
    """How many events wait for it in this process."""


class ChartTrouble(NamedTuple):
    """What the node of a chart may tell other nodes of its trouble."""

    kind: ProblemKind
    """`STUCK_CHART` or `QUEUE`."""
    name: str
    """As in `Stuck`."""
    signal: str = ""
    state: str = ""
    """As in `Stuck`, but empty if the thread has ended."""
    seconds: float = 0.0
    """For how long it has been stuck; 0 for a queue."""
    waiting: int = 0
    """How many events and messages wait: here, and in the queue at the broker."""
    is_over: bool = False


def _tell_nobody(_: ChartTrouble) -> None:
    """Drop it: the default where nobody wants to know."""


class ChartWatch:
    """Watches what takes the events of one network.

    Only the reactor's thread calls `look` and `note_queue`. Any thread may read `stuck`.

    Args:
        name: the name of the chart.
        network: the exchange.
        all_busy: the chart and its callbacks, as far as they take events of this network.
        limits: ``stuck_after_s``, and ``queue_bytes`` for the queue that `note_queue` tells of.
        report: takes the problems.
        on_trouble: called when something is said, in the reactor's thread; returns at once.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        name: str,
        network: str,
        all_busy: Sequence[Busy],
        limits: Limits,
        *,
        report: Report = report_to_nobody,
        on_trouble: Callable[[ChartTrouble], object] = _tell_nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._network = network
        self._watched = [_Watched(busy, limits.stuck_after_s) for busy in all_busy]
        self._queue = Filling(limits.queue_bytes)
        self._limits = limits
        self._report = report
        self._on_trouble = on_trouble
        self._clock = clock

    @property
    def stuck(self) -> tuple[Stuck, ...]:
        """What does not return at present."""
        return tuple(one.describe() for one in self._watched if one.is_stuck)

    def begin(self) -> None:
        """Begin anew: the chart starts, with another queue. What was wrong before is over.

        Called before anything is received.
        """
        now_s = self._clock()
        for one in self._watched:
            if one.progress.is_stuck and one.repetition.over(now_s):
                text = f"{one.busy.name} is started anew; before that, it was stuck"
                self._say(ProblemKind.STUCK_CHART, one.busy.name, text, is_over=True)
            one.progress = Progress(self._limits.stuck_after_s)
        if self._queue.is_near:
            text = f"{self._name} is started anew, with an empty queue"
            self._say(ProblemKind.QUEUE, self._name, text, is_over=True)
        self._queue = Filling(self._limits.queue_bytes)

    @property
    def is_well(self) -> bool:
        """Whether nothing was stuck at the last look, and the queue is not nearly full."""
        return not self._queue.is_near and not any(one.progress.is_stuck for one in self._watched)

    def look(self, held: int) -> bool:
        """Look whether events are taken.

        Args:
            held: how many messages wait in the receiver.

        Returns:
            whether something waits, and so to look again soon.
        """
        now_s = self._clock()
        waits = held > 0
        for one in self._watched:
            busy = one.busy
            waits_for_it = busy.waiting() > 0 or (held > 0 and busy.is_in_the_way())
            verdict = one.progress.look(busy.begun(), waits=waits_for_it, now_s=now_s)
            waits = waits or waits_for_it or one.progress.is_stuck
            if verdict is not Verdict.FINE:
                self._tell(one, verdict, held, now_s)
        return waits

    def _tell(self, one: _Watched, verdict: Verdict, held: int, now_s: float) -> None:
        repetition = one.repetition
        is_over = verdict is Verdict.OVER
        if is_over:
            is_to_say = repetition.over(now_s)
        elif verdict is Verdict.STUCK:
            is_to_say = repetition.begin(now_s)
        else:
            is_to_say = repetition.still(now_s)
        if not is_to_say:
            return
        stuck = one.describe()
        queued = self._queue.messages
        if is_over:
            text = f"{stuck.name} gets on again, after {stuck.seconds:.0f} s"
        else:
            text = _words(one.busy, stuck, held, queued)
        self._say(ProblemKind.STUCK_CHART, stuck.name, text, is_over=is_over)
        self._on_trouble(
            ChartTrouble(
                ProblemKind.STUCK_CHART,
                stuck.name,
                stuck.signal,
                stuck.state if stuck.at else "",
                stuck.seconds,
                stuck.waiting + held + queued,
                is_over,
            )
        )

    def note_queue(self, messages: int, mean_bytes: float) -> None:
        """Note what the broker says of the queue; see `Filling.note`."""
        queue = self._queue
        if not queue.note(messages, mean_bytes, self._clock()):
            return
        size = (
            f"about {_of_at_most(queue.bytes, queue.limit_bytes)} "
            f"({messages:,} messages) wait in the queue of {self._name} at its broker"
        )
        if queue.is_near:
            rest_s = queue.full_in_s
            when = f"; at this rate it is full in {rest_s:.0f} s" if rest_s is not None else ""
            text = (
                f"{size}{when}, and then the broker drops the oldest: events come faster than they "
                "are handled. Transmit less, handle faster, or raise Limits.queue_bytes"
            )
        else:
            text = f"only {size} now"
        is_over = not queue.is_near
        self._say(ProblemKind.QUEUE, self._name, text, is_over=is_over)
        self._on_trouble(
            ChartTrouble(ProblemKind.QUEUE, self._name, waiting=messages, is_over=is_over)
        )

    def _say(self, kind: ProblemKind, subject: str, text: str, *, is_over: bool) -> None:
        logger.warning("%s: %s", self._network, text)
        self._report(DeliveryProblem(kind, subject, text, self._network, is_over=is_over))


class _Watched:
    """One of those that are watched."""

    def __init__(self, busy: Busy, stuck_after_s: float) -> None:
        self.busy = busy
        self.progress = Progress(stuck_after_s)
        self.repetition = Repetition()

    @property
    def is_stuck(self) -> bool:
        return self.progress.is_stuck and self.progress.begun == self.busy.begun()

    def describe(self) -> Stuck:
        activity = self.busy.activity()
        return Stuck(self.busy.name, *activity, self.progress.stuck_s, self.busy.waiting())


def _of_at_most(size: int, limit: int) -> str:
    unit, name = (_MIB, "MiB") if limit >= 10 * _MIB else (_KIB, "KiB")
    return f"{size / unit:,.0f} of at most {limit / unit:,.0f} {name}"


def _words(busy: Busy, stuck: Stuck, held: int, queued: int) -> str:
    """Say what does not return, where it is, and what waits for it."""
    parts = [f"{stuck.waiting:,} events wait for it"]
    if held:
        parts.append(f"{held:,} messages are held")
    if queued:
        parts.append(f"{queued:,} more wait at the broker")
    waiting = ", ".join(parts)
    if not stuck.at:
        return f"{stuck.name} handles nothing, as its thread has ended: {waiting}"
    signal = f"the signal {stuck.signal}" if stuck.signal else ""
    state = f" in the state {stuck.state}" if stuck.state else ""
    where = ", ".join(filter(None, (signal + state, f"at {stuck.at}"))).lstrip()
    return f"{stuck.name} {busy.is_stuck_text} for {stuck.seconds:.0f} s ({where}): {waiting}"
