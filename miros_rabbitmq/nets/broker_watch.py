"""Watches over the brokers of one network, and tells their senders which of them keep up.

While a chart sends, the thread of the publishers looks at all senders about twice a second, and
`delivery.slowness` judges what it sees. Nothing is done for each event, and nothing at all while
there is nothing to send.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ..amqp.reactor import IoThread, Lane, Timer
from ..amqp.sender import Sender
from ..delivery.slowness import Condition, Slowness
from ..limits import Limits
from ..logs import RelayedLogger
from ..problems import Report
from ..urls import Address
from .broker_reports import BrokerReports

logger: RelayedLogger = RelayedLogger(__name__)

_LOOK_S = 0.5
_LOOKS_IN_A_LIMIT = 8
"""At least so many looks are taken in each of the limits that they serve."""

_RESTS_AFTER_S = 6.0
"""Looks go on for this long after everything was confirmed, so that a chart which sends now and
then does not begin them each time, and tells its last numbers when it falls silent."""

_LAGS_AFTER_S = 1.0
"""From here on, traffic that nobody waits for is to leave the way to a broker alone."""


class BrokerWatch:
    """Takes the looks, and has it said what has changed (see `broker_reports`).

    `wake`, `is_sluggish`, `takes_events` and `stop` may be called from any thread.

    Args:
        name: the network and the chart, for the log.
        limits: the times and rates.
        reactor: that of the senders; its thread takes the looks.
        senders: returns the senders by address.
        apart: returns the brokers that are no measure for the others: the own one, and spares.
        waits: whether a slow broker makes ``transmit`` wait all the same.
        report: takes what has begun and ended.
        on_look: called with each sender at each look.
        on_lag: called with an address and whether events have waited there for more than a second:
            at each look while they have, and once when they have no longer.
        on_change: called after a broker has begun or ceased to keep up.
        on_round: called with the time of each look, after it.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        reactor: IoThread,
        senders: Callable[[], Mapping[Address, Sender]],
        apart: Callable[[], Collection[Address]],
        *,
        waits: bool,
        report: Report,
        on_look: Callable[[Sender], object],
        on_lag: Callable[[Address, bool], object],
        on_change: Callable[[], object] | None = None,
        on_round: Callable[[float], object] | None = None,
    ) -> None:
        self.is_on: bool = False
        """Looks are being taken. To be asked after something was posted; if not, call `wake`."""
        self._name = name
        self._reactor = reactor
        self._senders = senders
        self._apart = apart
        self._waits = waits
        self._on_look = on_look
        self._on_lag = on_lag
        self._on_change = on_change
        self._on_round = on_round
        shortest_s = min(limits.absent_after_s, limits.slow_after_s, limits.behind_after_s)
        self._look_s = min(_LOOK_S, shortest_s / _LOOKS_IN_A_LIMIT)
        self._lane: Lane | None = None
        # The reactor's thread only.
        self._slowness = Slowness(limits)
        self._timer: Timer | None = None
        self._rested_s = 0.0
        self._reports = BrokerReports(limits, waits=waits, report=report)
        self._lagging: set[Address] = set()

    # Any thread.

    def start(self) -> None:
        """Be ready to look; starts the reactor's thread if it does not run yet."""
        if self._lane is None:
            name = f"the watch of {self._name}"
            self._reactor.attach(name, self._on_error, self._keep)

    def _keep(self, lane: Lane | None) -> None:
        self._lane = lane

    def stop(self) -> None:
        """Look no more; returns at once."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.call_soon(lambda: self._close(lane))

    def wake(self) -> None:
        """Begin to look."""
        lane = self._lane
        if lane is not None:
            try:
                self.is_on = True
                lane.call_soon(self._begin)
            except BaseException:  # such as KeyboardInterrupt, from the handler of a signal
                self.is_on = False  # the next event begins
                raise

    def is_sluggish(self, sender: Sender) -> bool:
        """Tell whether a broker takes so little that it is sick, if anything waits for it."""
        course = self._slowness.courses.get(sender.address)
        if course is None:
            return True  # nothing was confirmed since it was added, or it would have been looked at
        return course.is_sluggish(sender.drain_since(course.base, self._reactor.clock()))

    def takes_events(self, sender: Sender) -> bool:
        """Tell whether a broker can be reached and shows that it takes what waits for it."""
        course = self._slowness.courses.get(sender.address)
        if course is None:
            return sender.is_connected and not sender.is_absent
        return sender.is_connected and course.is_usable

    # The reactor's thread.

    def _begin(self) -> None:
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        lane, senders = self._lane, self._senders()
        self._timer = None
        if lane is None:
            return
        now_s = self._reactor.clock()
        looks = {address: sender.look() for address, sender in senders.items()}
        for address in self._slowness.courses.keys() - looks.keys():
            self._reports.forget(address)
            self._lagging.discard(address)
        changes = self._slowness.look(now_s, looks, self._apart())
        courses = self._slowness.courses
        for address, sender in senders.items():
            course = courses[address]
            yields = course.condition is Condition.STALLED or (
                course.condition is Condition.SLOW and not self._waits
            )
            sender.judge(course.condition, course.oldest_s, yields=yields)
            self._note_lag(address, lags=course.oldest_s >= _LAGS_AFTER_S)
            self._on_look(sender)
        for change in changes:
            self._reports.tell(change, senders[change.address], courses[change.address], now_s)
        for address, sender in senders.items():
            if courses[address].is_fine:
                self._reports.note_fine(address, sender)
        if changes and self._on_change is not None:
            self._on_change()
        if self._on_round is not None:
            self._on_round(now_s)
        if any(look.is_outstanding for look in looks.values()) or self._is_anybody_noted:
            self._rested_s = 0.0
        else:
            self._rested_s += self._look_s
        if self._rested_s >= _RESTS_AFTER_S:
            self._rested_s = 0.0
            # In this order: who posts asks afterwards whether looks are taken.
            self.is_on = False
            if all(sender.is_empty for sender in senders.values()):
                return
            self.is_on = True
        self._timer = lane.call_later(self._look_s, self._look)

    @property
    def _is_anybody_noted(self) -> bool:
        """Somebody does not keep up, which is to end by looking."""
        courses = self._slowness.courses.values()
        return any(course.condition is not Condition.KEEPING_UP for course in courses)

    def _note_lag(self, address: Address, *, lags: bool) -> None:
        # Again at each look while it lags, for networks that have been opened meanwhile.
        if lags or address in self._lagging:
            (self._lagging.add if lags else self._lagging.discard)(address)
            self._on_lag(address, lags)

    def _close(self, lane: Lane) -> None:
        lane.cancel(self._timer)
        self._timer = None
        self._reports.say_rest(self._senders())
        lane.close()

    def _on_error(self, error: BaseException) -> None:
        logger.error("%s: the watch over the brokers failed", self._name, exc_info=error)
        self.is_on = False  # the next event begins anew
