"""The events that a sender gives up: counted by reason, said once for each burst, and reported."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence

from ..delivery.bursts import Bursts
from ..delivery.intake import Record
from ..delivery.outbox import DropReason
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report

logger: RelayedLogger = RelayedLogger(__name__)

_INTERVAL_S = 1.0
"""Seconds between two reports while events are being dropped one by one."""


class Drops:
    """The drops of one sender. Not thread-safe: the sender locks.

    Args:
        who: the name of the sender's link, for the log.
        subject: the broker, as ``host:port``.
        network: the exchange.
        report: takes the reports.
        is_expected: the traffic may be lost, so drops are only counted.
    """

    def __init__(
        self, who: str, subject: str, network: str, report: Report, *, is_expected: bool
    ) -> None:
        self.counts: Counter[DropReason] = Counter()
        """By reason."""
        self._who = who
        self._subject = subject
        self._network = network
        self._report = report
        self._is_expected = is_expected
        self.in_burst: int = 0
        """How many were dropped since the burst began; 0 if there is none."""
        self._given_up = Bursts()
        self._unreported: Counter[DropReason] = Counter()
        self._next_s = -math.inf

    @property
    def total(self) -> int:
        """All of them."""
        return self.counts.total()

    @property
    def refused(self) -> int:
        """Those that the broker has refused."""
        return self.counts[DropReason.REFUSED]

    def note(self, reason: DropReason, events: int, *, is_said: bool = False) -> None:
        """Note dropped events. They are reported at once, and further ones once a second.

        Args:
            reason: why.
            events: how many.
            is_said: somebody else says when drops begin and end, and how many there were.
                Otherwise, the first of a burst is logged.
        """
        self.counts[reason] += events
        if self._is_expected or not events:
            return
        self._unreported[reason] += events
        if time.monotonic() >= self._next_s:
            self.report_rest()
        if is_said:
            return
        if not self.in_burst:
            logger.warning("%s: from now on events are dropped: %s", self._who, reason.value)
        self.in_burst += events

    def end_burst(self, *, is_said: bool = False) -> None:
        """Say how many were dropped since the burst began, unless somebody else says that."""
        dropped, self.in_burst = self.in_burst, 0
        self.report_rest()
        if dropped and not is_said:
            logger.warning("%s: %d events were dropped meanwhile", self._who, dropped)

    def report_rest(self) -> None:
        """Report what was not reported yet."""
        unreported, self._unreported = self._unreported, Counter()
        for reason, events in unreported.items():
            self._next_s = time.monotonic() + _INTERVAL_S
            text = f"{self._who}: events are dropped: {reason.value}"
            self._tell(ProblemKind.DROPPED, text, events)

    def note_given_up(self, records: Sequence[Record], words: str) -> None:
        """Note events that the broker refuses for good; say so once a minute.

        Args:
            records: the events.
            words: what the broker says.
        """
        if not records:
            return
        heading = records[0].heading
        size = len(heading.prefix) + len(records[0].data)
        text = (
            f"{self._who}: gave up an event of {size} bytes with the routing key "
            f"{heading.routing_key!r}, because the broker refuses it ({words})"
        )
        unsaid = self._given_up.note(len(records), time.monotonic())
        if unsaid is not None:
            more = f" (and {unsaid} since the last such line)" if unsaid else ""
            level = logging.INFO if self._is_expected else logging.WARNING
            logger.log(level, "%s%s", text, more)
        self.note_refused(len(records), text)

    def note_refused(self, events: int, text: str) -> None:
        """Note events that the broker refuses, and report them."""
        self.counts[DropReason.REFUSED] += events
        if events and not self._is_expected:
            self._tell(ProblemKind.REFUSED, text, events)

    def _tell(self, kind: ProblemKind, text: str, events: int) -> None:
        self._report(DeliveryProblem(kind, self._subject, text, self._network, events))
