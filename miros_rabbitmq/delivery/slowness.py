"""Whether each broker keeps up with what is sent, so that a sick one makes nobody wait.

A sender sends the same events to all its brokers. While the backlog for one is full, `transmit`
either waits for it, which holds up the others, or drops the oldest of that backlog. It waits if the
sender is too fast; it drops if that one broker is sick. `Slowness` tells the two apart, from a
`Look` at each broker, taken about twice a second:

- A broker is **stalled** if it has confirmed nothing for ``absent_after_s`` while events waited for
  it, although it was connected, and another broker is fine. The reason does not matter: an alarm, a
  frozen host, something that only pretends to be RabbitMQ. It has recovered when it has confirmed
  steadily for a while.
- A broker is **slow** if its oldest event has waited for ``slow_after_s``, or would have if it had
  not been dropped to make room, it takes less than both ``slow_events`` and ``slow_bytes`` a
  second, and has not begun to take more, and events wait less than a quarter as long for another
  broker. All matter. Where all are behind alike, the sender is too fast, or its own uplink is thin;
  a flood is no sickness while the broker takes a thousand events a second; and what takes little is
  fine while nothing waits. Some brokers are no measure for the others: the own one, as no network
  lies between, and spares, which get nothing. A slow broker has recovered when for ``slow_after_s``
  nothing has waited longer than a fifth of that, and its backlog was less than a quarter full; or
  when it takes twice what a slow one does, as a flood keeps the backlog of a healthy one full.
- A broker is **behind** if its oldest event has waited for ``behind_after_s``, or its backlog is a
  quarter full, for longer than a moment. This is an early warning and changes nothing.

Time in which a broker is not connected counts neither for slow nor for stalled: the connection's
own rules hold then. Bytes that leave for a broker are a sign of life like a confirm, so a large
event on a thin link does not stall it.

Pure; the clock is handed in. It should stand still while this process itself does. Not thread-safe:
one thread takes the looks; others may read the attributes of a `Course`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from ..limits import Limits
from ..urls import Address


class Condition(enum.Enum):
    """How a broker keeps up."""

    KEEPING_UP = "keeps up"
    BEHIND = "is behind"
    SLOW = "is slower than the others"
    STALLED = "confirms nothing"

    @property
    def is_sick(self) -> bool:
        """Nobody waits for the broker."""
        return self is Condition.SLOW or self is Condition.STALLED


class Look(NamedTuple):
    """What a sender shows of itself at one moment. The counts only grow."""

    connection: str
    """The name of its connection; empty while there is none."""
    is_ready: bool
    """The broker takes messages."""
    posted: int
    """Events that were posted."""
    settled: int
    """Those of them that are confirmed, refused or dropped: the oldest ones."""
    confirmed: int
    """Those that the broker itself has settled: confirmed or refused."""
    taken_bytes: int
    """The bytes of these, and of what is under way those that have reached the other host: so a
    large event counts before it is confirmed."""
    unsent_bytes: int
    """Bytes written to the connection that have not reached the other host."""
    fill: float
    """How full the backlog is, 0 to 1."""

    @property
    def is_outstanding(self) -> bool:
        """Some event is not settled."""
        return self.posted > self.settled


class Drain(NamedTuple):
    """What a broker takes, a second."""

    events: float
    size: float


class _Sample(NamedTuple):
    at_s: float
    ready_s: float
    """The time for which the broker was ready until then."""
    posted: int
    confirmed: int
    taken_bytes: int


class Base(NamedTuple):
    """Where the counting of a drain begins."""

    at_s: float
    confirmed: int
    taken_bytes: int


_QUARTER = 0.25
_EIGHTH = 0.125
_STEADY_SHARE = 0.6
"""A stalled broker has recovered after steady confirms for this share of ``absent_after_s``."""
_PAUSE_SHARE = 0.4
"""Confirms are steady while no pause takes longer than this share of ``absent_after_s``."""
_BRISK = 2.0
"""A slow broker that takes so many times what a slow one does has recovered."""
_FRESH_SHARE = 0.2
"""Nothing older than this share of ``slow_after_s`` waits for a slow broker that has recovered."""
_RECENT_SHARE = 0.2
"""What a broker takes now is reckoned over this share of ``slow_after_s``."""
_LONGEST_WINDOWS = 2
"""A drain is reckoned over at most so many times ``slow_after_s``. So a broker that takes twice
``slow_events`` may pause for nearly ``slow_after_s`` under a flood."""
_MOST_SAMPLES = 256
"""More than are taken in two minutes. From there on, the ages of the oldest events become coarser,
never the memory larger."""
_SHORTEST_S = 0.05
"""A drain is reckoned over this time at least."""


class Course:
    """How one broker keeps up, look by look.

    Args:
        limits: the times and rates.
    """

    def __init__(self, limits: Limits) -> None:
        self.is_measure = True
        """Others may be called slow beside this one."""
        self.condition = Condition.KEEPING_UP
        self.oldest_s: float = 0.0
        """For how long the oldest event has waited, at the last look."""
        self.silent_s: float = 0.0
        """For how long nothing has shown that the broker takes what waits for it."""
        self.base: Base = Base(0.0, 0, 0)
        """Where the counting of its drain begins: when the oldest event was posted, but at least
        ``slow_after_s`` ago and at most twice that: a backlog of large events that was filled by a
        fast link says nothing of the link that has become thin."""
        self._limits = limits
        self._look: Look | None = None
        self._at_s = 0.0
        self._ready_s = 0.0
        self._samples: deque[_Sample] = deque()
        self._oldest_ready_s = 0.0
        # While events are dropped, the oldest does not get older: when it would have been posted.
        self._overflowing_since_ready_s: float | None = None
        self.drain: Drain = Drain(0.0, 0.0)
        """What it has taken since `base`, while it was ready."""
        self._recent_drain = Drain(0.0, 0.0)
        # Since when confirms come without a pause, events wait briefly, and it is not behind.
        self._steady_since_s: float | None = None
        self._fresh_since_s: float | None = None
        self._behind_since_s: float | None = None
        # The connection by which the last confirm came: bytes that leave by a later one mean
        # little, as each new connection takes some.
        self._proven_connection = ""

    @property
    def is_usable(self) -> bool:
        """The broker takes messages, and shows it."""
        look = self._look
        patience_s = self._limits.absent_after_s / 2
        return look is not None and look.is_ready and self.silent_s < patience_s

    @property
    def confirmed(self) -> int:
        """What the broker has settled until the last look."""
        return 0 if self._look is None else self._look.confirmed

    @property
    def is_fine(self) -> bool:
        """It keeps up, and nothing says that it may soon be found behind."""
        return self.condition is Condition.KEEPING_UP and self._behind_since_s is None

    def note(self, now_s: float, look: Look) -> None:
        """Take a look at a time of a monotonic clock."""
        last, self._look = self._look, look
        passed_s = max(0.0, now_s - self._at_s) if last is not None else 0.0
        self._at_s = now_s
        if look.is_ready:
            self._ready_s += passed_s
        self._note_signs_of_life(passed_s, last or look, look)
        self._note_sample(now_s, look)
        self._note_since(now_s, look)
        self._note_overflow(last or look, look)

    def _note_signs_of_life(self, passed_s: float, last: Look, look: Look) -> None:
        has_confirmed = look.confirmed > last.confirmed
        if has_confirmed or not look.is_outstanding:
            self._proven_connection = look.connection
        has_left = (
            look.connection == last.connection == self._proven_connection
            and look.unsent_bytes < last.unsent_bytes
        )
        if has_confirmed or has_left or not (look.is_outstanding and last.is_outstanding):
            self.silent_s = 0.0
        elif look.connection:
            self.silent_s += passed_s

    def _note_sample(self, now_s: float, look: Look) -> None:
        samples, window_s = self._samples, self._limits.slow_after_s
        while len(samples) > 1 and samples[1].posted <= look.settled:
            if self._ready_s - samples[1].ready_s < window_s:
                break
            samples.popleft()
        sample = _Sample(now_s, self._ready_s, look.posted, look.confirmed, look.taken_bytes)
        samples.append(sample)
        if len(samples) > _MOST_SAMPLES:
            self._samples = samples = deque(_thinned(samples))
        oldest = sample
        if look.is_outstanding:
            oldest = next(each for each in samples if each.posted > look.settled)
        self.oldest_s = now_s - oldest.at_s
        self._oldest_ready_s = self._ready_s - oldest.ready_s
        first, is_after_oldest = samples[0], False
        for each in samples:
            age_s = self._ready_s - each.ready_s
            is_after_oldest = is_after_oldest or each is oldest
            if age_s < window_s or (is_after_oldest and age_s <= _LONGEST_WINDOWS * window_s):
                break
            first = each
        self.base = Base(first.at_s, first.confirmed, first.taken_bytes)
        self.drain = self._drain_since(first)
        recent_s = _RECENT_SHARE * window_s
        recently = (one for one in reversed(samples) if self._ready_s - one.ready_s >= recent_s)
        self._recent_drain = self._drain_since(next(recently, samples[0]))

    def _drain_since(self, first: _Sample) -> Drain:
        last = self._samples[-1]
        size = last.taken_bytes - first.taken_bytes
        return _drain(last.ready_s - first.ready_s, last.confirmed - first.confirmed, size)

    def _note_since(self, now_s: float, look: Look) -> None:
        limits = self._limits
        is_steady = look.is_ready and self._is_steady
        self._steady_since_s = _since(self._steady_since_s, now_s, holds=is_steady)
        # A backlog of which the oldest are dropped all the time is fresh, too.
        is_fresh = self.oldest_s < _FRESH_SHARE * limits.slow_after_s and look.fill < _QUARTER
        self._fresh_since_s = _since(self._fresh_since_s, now_s, holds=is_fresh)
        is_late = bool(look.connection) and self.oldest_s >= limits.behind_after_s
        is_fine = self.oldest_s < limits.behind_after_s / 2 and look.fill < _EIGHTH
        if is_late or look.fill >= _QUARTER or is_fine:
            self._behind_since_s = _since(self._behind_since_s, now_s, holds=not is_fine)

    @property
    def _is_steady(self) -> bool:
        return self.silent_s < _PAUSE_SHARE * self._limits.absent_after_s

    def _note_overflow(self, last: Look, look: Look) -> None:
        if look.settled - last.settled > look.confirmed - last.confirmed:
            if self._overflowing_since_ready_s is None:
                self._overflowing_since_ready_s = self._ready_s - self._oldest_ready_s
        elif self._fresh_since_s is not None:
            self._overflowing_since_ready_s = None

    @property
    def _waited_ready_s(self) -> float:
        """For how long the oldest event has waited while the broker was ready, or would have."""
        since_s = self._overflowing_since_ready_s
        return self._oldest_ready_s if since_s is None else self._ready_s - since_s

    @property
    def _is_brisk(self) -> bool:
        """It takes so much that it is not slow, even if a flood keeps its backlog full."""
        limits, drain = self._limits, self.drain
        return (
            drain.events >= _BRISK * limits.slow_events or drain.size >= _BRISK * limits.slow_bytes
        )

    def is_sluggish(self, drain: Drain) -> bool:
        """Tell whether a drain is that of a sick broker, if anything waits for it."""
        return drain.events < self._limits.slow_events and drain.size < self._limits.slow_bytes

    def judged(self, others: list[Course]) -> Condition:
        """The condition that follows from the last look.

        Args:
            others: those of the other brokers.
        """
        limits, now_s = self._limits, self._at_s
        condition = self.condition
        if condition is Condition.STALLED:
            if not _for(self._steady_since_s, now_s, _STEADY_SHARE * limits.absent_after_s):
                return condition
        elif self.silent_s >= limits.absent_after_s and any(one.is_usable for one in others):
            return Condition.STALLED
        if condition is Condition.SLOW:
            if not (_for(self._fresh_since_s, now_s, limits.slow_after_s) or self._is_brisk):
                return condition
        elif self._is_slow_beside(others):
            return Condition.SLOW
        is_behind = _for(self._behind_since_s, now_s, _QUARTER * limits.behind_after_s)
        return Condition.BEHIND if is_behind else Condition.KEEPING_UP

    def _is_slow_beside(self, others: list[Course]) -> bool:
        look = self._look
        # One that takes nothing at all will be stalled soon, unless it goes on.
        if look is None or not look.is_ready or not self._is_steady or not look.is_outstanding:
            return False
        if self._waited_ready_s < self._limits.slow_after_s:
            return False
        # One that is catching up is not slow any more.
        if not (self.is_sluggish(self.drain) and self.is_sluggish(self._recent_drain)):
            return False
        return any(
            one.is_usable
            and one.is_measure
            and not one.condition.is_sick
            and one.oldest_s < _QUARTER * self.oldest_s
            for one in others
        )


class Change(NamedTuple):
    """A broker's condition has changed."""

    address: Address
    before: Condition
    after: Condition


class Slowness:
    """The courses of all brokers of one sender.

    Args:
        limits: the times and rates.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.courses: dict[Address, Course] = {}
        """By address; replaced as a whole when brokers come or go."""

    def look(
        self, now_s: float, looks: Mapping[Address, Look], apart: Collection[Address] = ()
    ) -> list[Change]:
        """Take a look at all brokers.

        Args:
            now_s: a time of a monotonic clock, in seconds.
            looks: one for each broker.
            apart: those that are no measure for the others.

        Returns:
            whose condition has changed. The courses have the new condition already.
        """
        if self.courses.keys() != looks.keys():
            self.courses = {
                address: self.courses.get(address) or Course(self._limits) for address in looks
            }
        courses = self.courses
        for address, look in looks.items():
            courses[address].note(now_s, look)
            courses[address].is_measure = address not in apart
        changes = []
        for address, course in courses.items():
            others = [other for other in courses.values() if other is not course]
            before, after = course.condition, course.judged(others)
            if after is not before:
                course.condition = after
                changes.append(Change(address, before, after))
        return changes


def drain_between(base: Base, now_s: float, confirmed: int, taken_bytes: int) -> Drain:
    """What a broker has taken a second.

    Args:
        base: where the counting begins.
        now_s: a time of the same clock, in seconds.
        confirmed: events that the broker has settled until then.
        taken_bytes: the bytes of these.
    """
    size = taken_bytes - base.taken_bytes
    return _drain(now_s - base.at_s, confirmed - base.confirmed, size)


def _drain(seconds: float, events: int, size: int) -> Drain:
    seconds = max(seconds, _SHORTEST_S)
    # What had left by a connection that was lost has to be sent again.
    return Drain(events / seconds, max(0, size) / seconds)


def _since(since_s: float | None, now_s: float, *, holds: bool) -> float | None:
    """Since when something holds; `None` if it does not."""
    if not holds:
        return None
    return now_s if since_s is None else since_s


def _for(since_s: float | None, now_s: float, seconds: float) -> bool:
    return since_s is not None and now_s - since_s >= seconds


def _thinned(samples: deque[_Sample]) -> Iterator[_Sample]:
    """Leave out every second sample of the older half."""
    for number, sample in enumerate(samples):
        if number >= len(samples) // 2 or number % 2 == 0:
            yield sample
