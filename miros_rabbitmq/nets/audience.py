"""Whether anybody listens to what a chart transmits.

A typing error in a routing key loses every event in silence: the brokers take the events over, and
put them into no queue. A broker tells that by returning a message, but not at the chart's own
broker if the chart's own queue gets them: there, the chart asks the others (see `neighbours`).

The clock is handed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..urls import Address
from ..wire.envelope import MESH

logger: RelayedLogger = RelayedLogger(__name__)

UNHEARD_S = 5.0
"""After so long without any listener, it is said. Charts that start together need less."""

_LAG_S = 2.0
"""Not every broker confirms an event at the same time: what is confirmed so soon after another was
heard somewhere may have been heard there, too."""

_LOOKS_BACK = 8

_MOST_COURSES = 256
"""The most brokers that are remembered besides those that are there: a spare may return."""


class Taken(NamedTuple):
    """What one broker has taken over so far. The counts only grow."""

    is_known: bool
    """It is connected and confirms events. Otherwise somebody may listen there."""
    confirmed: int
    """Events that it has confirmed."""
    unrouted: int
    """Those of them that went into no queue but the sender's own."""


class _Course:
    """What one broker has taken over, look by look."""

    def __init__(self) -> None:
        self.confirmed = 0
        # How many events somebody has heard, at the latest looks. A message is returned a moment
        # before it is confirmed, and twice if it is sent twice: the highest of these counts.
        self._heard: deque[int] = deque((0,), maxlen=_LOOKS_BACK)

    def is_heard(self, taken: Taken) -> bool:
        """Take what a look shows; tell whether somebody has heard an event since the last."""
        heard = taken.confirmed - taken.unrouted
        is_heard = heard > max(self._heard)
        self._heard.append(heard)
        self.confirmed = taken.confirmed
        return is_heard


class Audience:
    """Says that nobody listens to a chart, and that somebody does again. For one thread.

    Args:
        name: the name of the chart.
        routing_key: the one by which it transmits.
        report: takes what has begun and ended.
    """

    def __init__(self, name: str, routing_key: str, report: Report) -> None:
        self._name = name
        self._routing_key = routing_key
        self._report = report
        self._courses: dict[Address, _Course] = {}
        self._unheard = 0
        self._since_s: float | None = None
        self._heard_s = -math.inf
        self._is_said = False

    def look(
        self,
        now_s: float,
        brokers: Mapping[Address, Taken],
        *,
        is_expected: bool,
        has_listener: bool = False,
    ) -> None:
        """Look at what the brokers have taken over. To be called about twice a second.

        Args:
            now_s: a time of a monotonic clock.
            brokers: what each has taken over since it was added.
            is_expected: whether somebody should listen: without that, nothing is said.
            has_listener: somebody has announced that it listens.
        """
        unheard = 0
        for address, taken in brokers.items():  # all of them, so that no count gets old
            course = self._courses.pop(address, None) or _Course()
            self._courses[address] = course  # behind the others
            before = course.confirmed
            has_listener = course.is_heard(taken) or has_listener
            unheard = max(unheard, taken.confirmed - before)
        for address in list(self._courses)[: max(0, len(self._courses) - _MOST_COURSES)]:
            if address not in brokers:
                del self._courses[address]  # a broker that is gone
        if has_listener:
            self._heard_s = now_s
            self.hear_listener()
            return
        if unheard and now_s - self._heard_s >= _LAG_S:
            self._unheard += unheard
            if self._since_s is None:
                self._since_s = now_s
        if self._since_s is None or self._is_said:
            return
        if not all(taken.is_known for taken in brokers.values()):
            # Somebody may listen there. What waits for that broker shows it soon after its return.
            self._since_s = now_s
        elif is_expected and now_s - self._since_s >= UNHEARD_S:
            self._is_said = True
            count = f"{self._unheard} event{'' if self._unheard == 1 else 's'}"
            self._tell(
                f"nobody listens to what {self._name} transmits by the routing key "
                f"{self._routing_key!r}: {count} reached no chart. Compare its tx_routing_key with "
                "the rx_routing_key of the other charts, and see whether they run"
            )

    @property
    def is_in_doubt(self) -> bool:
        """Whether events have gone out, and nobody is known to have heard them."""
        return self._since_s is not None

    def hear_listener(self) -> None:
        """Note that somebody listens."""
        if self._is_said:
            self._is_said = False
            self._tell(
                f"somebody listens now to what {self._name} transmits by the routing key "
                f"{self._routing_key!r}",
                is_over=True,
            )
        self._unheard = 0
        self._since_s = None

    def _tell(self, text: str, *, is_over: bool = False) -> None:
        logger.warning("%s: %s", MESH, text)
        kind = ProblemKind.UNHEARD
        self._report(DeliveryProblem(kind, self._name, text, MESH, is_over=is_over))
