"""Reports the events that a sender drops, without a report for each of them."""

from __future__ import annotations

import math
import time
from collections import Counter

from ..delivery.outbox import DropReason
from ..problems import DeliveryProblem, ProblemKind, Report

_INTERVAL_S = 1.0
"""Seconds between two reports while events are being dropped one by one."""


class DropReports:
    """Reports drops at once, and then once a second with their number. Not thread-safe.

    Args:
        who: the name of the sender's link, for the text.
        subject: the broker, as ``host:port``.
        network: the exchange.
        report: takes the reports.
    """

    def __init__(self, who: str, subject: str, network: str, report: Report) -> None:
        self._who = who
        self._subject = subject
        self._network = network
        self._report = report
        self._untold: Counter[DropReason] = Counter()
        self._next_s = -math.inf

    def note(self, reason: DropReason, events: int) -> None:
        """Note that events were dropped."""
        self._untold[reason] += events
        if time.monotonic() >= self._next_s:
            self.tell()

    def tell(self) -> None:
        """Report what was not reported yet."""
        untold, self._untold = self._untold, Counter()
        for reason, events in untold.items():
            self._next_s = time.monotonic() + _INTERVAL_S
            self._report(
                DeliveryProblem(
                    ProblemKind.REFUSED if reason is DropReason.REFUSED else ProblemKind.DROPPED,
                    self._subject,
                    f"{self._who}: events are dropped: {reason.value}",
                    network=self._network,
                    events=events,
                )
            )
