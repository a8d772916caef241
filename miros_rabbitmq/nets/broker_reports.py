"""Says that a broker does not keep up, and that it does again, in the log and to the user.

Of one trouble there are few lines: one when it begins, one when it gets worse (nobody waits for the
broker any more), and one when it ends, with what it has cost.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..amqp.sender import Sender
from ..delivery.slowness import Change, Condition, Course
from ..limits import Limits
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..urls import Address
from .lately import Lately

logger: RelayedLogger = RelayedLogger(__name__)

_EARLY_WARNING_S = 60.0
"""That a broker is behind is logged at most once in this time: floods come in waves."""

_MOST_LINES = 32
"""The most lines in a minute. A stranger can pose as many brokers, and none of them keeps up."""

_MIB = 1024 * 1024

_KINDS = {
    Condition.BEHIND: ProblemKind.BEHIND,
    Condition.SLOW: ProblemKind.SLOW,
    Condition.STALLED: ProblemKind.STALLED,
}


@dataclass
class _Trouble:
    """What was said of a broker that does not keep up."""

    since_s: float
    dropped: int
    """What had been dropped for it before."""
    confirmed: int
    """What it had settled before."""
    begun: dict[ProblemKind, int] = field(default_factory=dict)
    """What the user was told to have begun, and what had been dropped by then."""
    is_logged: bool = False
    """Its end has to be logged, too."""


class BrokerReports:
    """What is said of the brokers of one network. For the thread that takes the looks.

    Args:
        limits: what a backlog holds.
        waits: whether ``transmit`` waits for slow brokers, too.
        report: takes what has begun and ended.
    """

    def __init__(self, limits: Limits, *, waits: bool, report: Report) -> None:
        self._limits = limits
        self._waits = waits
        self._report = report
        self._network = ""
        self._lines = Lately(_EARLY_WARNING_S, _MOST_LINES)
        self._numbers = itertools.count()
        self._troubles: dict[Address, _Trouble] = {}
        self._warned_s: dict[Address, float] = {}
        # What had been dropped for each broker when it was last fine.
        self._dropped: dict[Address, int] = {}

    def note_fine(self, address: Address, sender: Sender) -> None:
        """Note that there is no trouble with a broker, and none is to be expected."""
        self._dropped[address] = sender.dropped

    def forget(self, address: Address) -> None:
        """Forget a broker that was given up, and with it its troubles."""
        trouble = self._troubles.pop(address, None)
        for kind in () if trouble is None else trouble.begun:
            text = f"the broker at {address} was given up"
            self._report(DeliveryProblem(kind, str(address), text, self._network, is_over=True))
        self._warned_s.pop(address, None)
        self._dropped.pop(address, None)

    def tell(self, change: Change, sender: Sender, course: Course, now_s: float) -> None:
        """Say that the condition of a broker has changed."""
        address, before, after = change
        self._network = sender.traffic.exchange
        trouble = self._troubles.get(address)
        if trouble is None:
            trouble = _Trouble(now_s, self._dropped.get(address, 0), course.confirmed)
            self._troubles[address] = trouble
        if not after.is_sick:
            self._end(change, sender, course, trouble, now_s)
        if after is Condition.KEEPING_UP:
            del self._troubles[address]
            return
        text = self._words(after, sender, course)
        if _KINDS[after] not in trouble.begun:
            trouble.begun[_KINDS[after]] = sender.dropped if trouble.begun else trouble.dropped
            self._tell_user(_KINDS[after], sender, text)
        if after.is_sick or (not before.is_sick and self._is_early_warning_due(sender, now_s)):
            trouble.is_logged = True
            self._log(sender, text, now_s)

    def _end(
        self, change: Change, sender: Sender, course: Course, trouble: _Trouble, now_s: float
    ) -> None:
        """Say that a broker is no longer sick, or that all is well."""
        _, before, after = change
        if before is Condition.KEEPING_UP:
            return
        dropped = sender.dropped - trouble.dropped
        trouble.dropped += dropped
        lost = f"; {_events(dropped)} dropped for it" if dropped else ""
        is_back = course.confirmed > trouble.confirmed and sender.link.is_connected
        if not is_back:  # a spare has taken over, or all was dropped
            what = "has nothing waiting for it any more"
        else:
            what = "keeps up again" if after is Condition.KEEPING_UP else "takes events again"
        trouble.confirmed = course.confirmed
        text = f"{what} after {now_s - trouble.since_s:.0f} s{lost}"
        for kind, before_that in list(trouble.begun.items()):
            if after is Condition.KEEPING_UP or kind is not ProblemKind.BEHIND:
                del trouble.begun[kind]
                self._tell_user(kind, sender, text, sender.dropped - before_that, is_over=True)
        if trouble.is_logged or dropped:
            trouble.is_logged = False
            self._log(sender, text, now_s)

    def say_rest(self, senders: Mapping[Address, Sender]) -> None:
        """Say what has been dropped for brokers whose trouble has not ended, at the end of all."""
        for address, trouble in self._troubles.items():
            dropped = senders[address].dropped - trouble.dropped if address in senders else 0
            if dropped > 0:
                text = f"does not keep up to the end; {_events(dropped)} dropped"
                self._log(senders[address], text)

    def _is_early_warning_due(self, sender: Sender, now_s: float) -> bool:
        if sender.link.blocked_reason:
            return False  # that is said already
        if now_s - self._warned_s.get(sender.address, -math.inf) < _EARLY_WARNING_S:
            return False
        self._warned_s[sender.address] = now_s
        return True

    def _words(self, condition: Condition, sender: Sender, course: Course) -> str:
        stats = sender.stats()
        waiting = stats.waiting + stats.unconfirmed
        left = "1 event waits for it" if waiting == 1 else f"{waiting:,} events wait for it"
        if condition is Condition.BEHIND:
            what, consequence = "is behind", "transmit waits for it, for transmit_timeout at most"
            if not sender.link.is_connected:
                why = f" ({stats.fault})" if stats.fault else ""
                what, consequence = f"is not connected{why}", "its oldest events are dropped"
            elif sender.is_doubtful:
                consequence = (
                    "its oldest events are dropped, as nobody has named it, and no node has "
                    "announced it"
                )
            limits = self._limits
            size = f"{limits.backlog_events:,} events or {limits.backlog_bytes / _MIB:.0f} MiB"
            return (
                f"{what}: {left}, the oldest for {course.oldest_s:.1f} s; when its backlog is full "
                f"({size}), {consequence}"
            )
        if condition is Condition.SLOW:
            drain = course.drain
            consequence = (
                "when its backlog is full, transmit waits for it, as on_full='wait' says"
                if self._waits
                else "nobody waits for it any more, and when its backlog is full, its oldest "
                "events are dropped"
            )
            return (
                f"is slower than the others: it takes {drain.events:,.0f} events "
                f"({drain.size:,.0f} bytes) a second, and {left}, the oldest for "
                f"{course.oldest_s:.1f} s: {consequence}. Look at the network to that host, and at "
                "its disk"
            )
        return (
            f"has confirmed nothing for {course.silent_s:.1f} s, and {left}: it counts as absent, "
            f"and when its backlog is full, its oldest events are dropped. {_reason(sender)}"
        )

    def _log(self, sender: Sender, text: str, now_s: float | None = None) -> None:
        level = logging.WARNING
        if now_s is not None and not self._lines.may(next(self._numbers), now_s):
            level = logging.DEBUG  # the last lines have said enough; ``stats()`` has all of it
        logger.log(level, "%s: the broker %s", sender.link.name, text)

    def _tell_user(
        self,
        kind: ProblemKind,
        sender: Sender,
        text: str,
        events: int = 0,
        *,
        is_over: bool = False,
    ) -> None:
        address, network = str(sender.address), sender.traffic.exchange
        text = f"the broker at {address} {text}"
        self._report(DeliveryProblem(kind, address, text, network, events, is_over))


def _events(count: int) -> str:
    return "1 event was" if count == 1 else f"{count:,} events were"


def _reason(sender: Sender) -> str:
    """What may be the reason that a broker confirms nothing."""
    blocked = sender.link.blocked_reason
    if blocked:
        return f"It lets nobody publish: {blocked}"
    unsent = sender.link.bytes_unsent
    if unsent:
        return (
            f"{unsent:,} bytes have not reached its host: the network to it carries next to "
            "nothing, or the broker is frozen"
        )
    return "It is frozen, or its disk is; or what answers there is not RabbitMQ"
