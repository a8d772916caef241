"""Notices that another chart of the same name is running on the same brokers.

Nothing breaks by that, but nobody can tell their lines, warnings and problems apart.

The clock is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..wire.envelope import MESH

logger: RelayedLogger = RelayedLogger(__name__)

_said: dict[str, int] = {}
"""The names of which this process has logged it: two charts of one process share a line."""


class Namesakes:
    """Says that there is another chart of the same name: in the log once in this process, and to
    the user of each chart once in each of its starts.

    `hear` is called in the receiver's thread.

    Args:
        name: the name of the chart.
        report: takes the problem.
        now: the wall clock, in seconds since 1970.
    """

    def __init__(self, name: str, report: Report, now: Callable[[], float] = time.time) -> None:
        self._name = name
        self._report = report
        self._now = now
        self._began_ms = 0
        self._is_said = False

    def begin(self) -> None:
        """Note that the chart begins to listen."""
        self._began_ms = int(self._now() * 1000)

    def hear(self, sent_ms: int) -> bool:
        """Take a notice of another chart of this name.

        What was sent before this chart began may be the last of its own former run, in a process
        that has ended meanwhile.

        Args:
            sent_ms: when the other sent it, in milliseconds since 1970.

        Returns:
            whether this is the first: the other may not have heard of this chart yet.
        """
        if self._is_said or sent_ms <= self._began_ms:
            return False
        self._is_said = True
        text = (
            f"{self._name}: another chart of this name runs on the same brokers, so nobody can "
            "tell their traces and warnings apart: give each chart a name of its own"
        )
        # One step, as the thread of another chart may do the same.
        if _said.setdefault(self._name, id(self)) == id(self):
            logger.warning("%s", text)
        self._report(DeliveryProblem(ProblemKind.SAME_NAME, self._name, text, MESH))
        return True
