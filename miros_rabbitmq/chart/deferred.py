"""The deferred events of a networked chart, in the place of miros's ring.

miros keeps them in a ring of 500, whose oldest vanish without a word when there are more. This
queue takes more, up to limits in number and bytes, and what it drops is counted, logged and
reported. `defer` and `recall` of miros use it as they did: the first that was deferred is the first
that is recalled, and goes behind the others in the chart's FIFO.

miros's other rings hold instrumentation only, and may drop: ``full.spy`` and ``full.trace`` keep
the last 500 lines, and ``rtc`` the last 250 of one run to completion. `timers` takes the place of
its ring of timers.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from ..nets.large_event import memory_of_remote
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody

logger: logging.Logger = logging.getLogger(__name__)


class DeferredEvents(deque[Any]):
    """The events that a chart has deferred, the oldest first. For the chart's own thread.

    Args:
        most_events: when there are more, the oldest is dropped.
        most_bytes: when events from the network take more memory than this, the oldest events are
            dropped; the newest stays.
        name: the chart, for the log.
        report: is told of each event that is dropped.
    """

    def __init__(
        self,
        most_events: int,
        most_bytes: int,
        name: str,
        report: Report = report_to_nobody,
    ) -> None:
        super().__init__()
        self.dropped: int = 0
        """Events that were dropped."""
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._name = name
        self._report = report
        self._is_overflowing = False
        # Not less than what the events from the network in it take. It is counted anew only when it
        # is more than the limit, so that nothing has to be noted when an event is taken out.
        self._bytes = 0

    def append(self, event: Any) -> None:
        """Defer an event; miros's `defer` calls this."""
        super().append(event)
        self._bytes += memory_of_remote(event)
        if len(self) > self._most_events:
            self._drop_oldest()
        elif self._bytes > self._most_bytes:
            self._bytes = sum(map(memory_of_remote, self))
            while self._bytes > self._most_bytes and len(self) > 1:
                self._drop_oldest()
        elif self._is_overflowing and len(self) <= self._most_events // 2:
            self._is_overflowing = False

    def copy(self) -> Any:
        """Return the events in a `deque`."""
        return deque(self)

    __copy__ = copy

    def _drop_oldest(self) -> None:
        event = self.popleft()
        self._bytes -= memory_of_remote(event)
        self.dropped += 1
        text = (
            f"{self._name} has deferred {len(self):,} events, and no more are kept: the oldest are "
            "dropped. Recall them earlier, or raise Limits.deferred_events or deferred_bytes"
        )
        if not self._is_overflowing:
            self._is_overflowing = True
            logger.error("%s", text)
        self._report(DeliveryProblem(ProblemKind.DROPPED, self._name, text, events=1))
