"""What may go wrong with delivery, as a chart's ``on_delivery_problem`` is told of it.

Whoever notices a problem logs it and reports it: the parts that send, those that receive, and the
chart. A fleet is then watched by one callback for each chart, not by reading fifty logs.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple


class ProblemKind(enum.Enum):
    """What is wrong."""

    AWAY = "a broker cannot be reached"
    BEHIND = "a broker is behind: events wait for it"
    SLOW = "a broker is slower than the others: nobody waits for it"
    STALLED = "a broker confirms nothing: nobody waits for it"
    DROPPED = "events were dropped"
    REFUSED = "a broker refuses an event for good"
    GAP = "events of a sender are missing"
    REJECTED = "received events were rejected"
    CLOCK = "others reject our events, because the clocks differ"
    STUCK_CHART = "a chart does not return from a handler"
    QUEUE = "the queue of a chart is nearly full"
    SAME_BROKER = "several addresses lead to the same broker or cluster"
    SAME_NAME = "another chart has the same name"
    UNHEARD = "nobody listens to what a chart transmits"


class DeliveryProblem(NamedTuple):
    """A problem that began, grew or ended."""

    kind: ProblemKind
    """What is wrong."""
    subject: str
    """What it is about: a broker as ``host:port``, or the name of a sender or a chart."""
    text: str
    """What happened and what to do about it, as it is logged."""
    network: str = ""
    """The exchange, such as ``miros.mesh``; empty if it concerns no network in particular."""
    events: int = 0
    """How many events it has cost since the last report of the same kind and subject."""
    is_over: bool = False
    """It has ended. Only problems that last end: ``AWAY``, ``BEHIND``, ``SLOW``, ``STALLED``,
    ``UNHEARD``, ``STUCK_CHART`` and ``QUEUE``."""


Report = Callable[[DeliveryProblem], object]
"""Takes a problem. It may be called from any thread, returns at once and never raises."""


def report_to_nobody(_: DeliveryProblem) -> None:
    """Drop a report: the default where nobody has asked for them."""
