"""Says that a broker does not keep up, and that it does again, in the log and to the user.

Of one trouble there are few lines: one when it begins, one when it gets worse (nobody waits for the
broker any more), and one when it ends, with what it has cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..amqp.sender import Sender
from ..delivery.slowness import Change, Condition, Course
from ..limits import Limits
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..urls import Address

logger = RelayedLogger(__name__)

_EARLY_WARNING_S = 60.0
"""That a broker is behind is logged at most once in this time: floods come in waves."""

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
    told: int
    """What had been dropped when its condition changed last."""
    confirmed: int
    """What it had settled by then."""
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
        self._troubles: dict[Address, _Trouble] = {}
        self._warned_s: dict[Address, float] = {}
        # What had been dropped for each broker when it was last fine.
        self._dropped: dict[Address, int] = {}

    def note_fine(self, address: Address, sender: Sender) -> None:
        """Note that there is no trouble with a broker, and none is to be expected."""
        self._dropped[address] = sender.dropped

    def forget(self, address: Address) -> None:
        """Forget a broker that is gone."""
        self._troubles.pop(address, None)
        self._warned_s.pop(address, None)
        self._dropped.pop(address, None)

    def tell(self, change: Change, sender: Sender, course: Course, now_s: float) -> None:
        """Say that the condition of a broker has changed."""
        address, before, after = change
        trouble = self._troubles.get(address)
        if trouble is None:
            dropped = self._dropped.get(address, 0)
            trouble = _Trouble(now_s, dropped, dropped, course.confirmed)
            self._troubles[address] = trouble
        if before is not Condition.KEEPING_UP:
            has_confirmed = course.confirmed > trouble.confirmed
            trouble.confirmed = course.confirmed
            self._end(change, sender, trouble, now_s, has_confirmed=has_confirmed)
        if after is Condition.KEEPING_UP:
            del self._troubles[address]
            return
        text = self._words(after, sender, course)
        self._tell_user(_KINDS[after], sender, text)
        if after.is_sick or (not before.is_sick and self._is_early_warning_due(sender, now_s)):
            trouble.is_logged = True
            self._log(sender, text)

    def _end(
        self,
        change: Change,
        sender: Sender,
        trouble: _Trouble,
        now_s: float,
        *,
        has_confirmed: bool,
    ) -> None:
        _, before, after = change
        dropped = sender.dropped - trouble.dropped
        lost = f"; {dropped:,} events were dropped for it" if dropped else ""
        if not has_confirmed:  # a spare has taken over what waited, or it was dropped
            what = "has nothing waiting for it any more"
        else:
            what = "keeps up again" if after is Condition.KEEPING_UP else "takes events again"
        text = f"{what} after {now_s - trouble.since_s:.0f} s{lost}"
        events = sender.dropped - trouble.told
        trouble.told += events
        self._tell_user(_KINDS[before], sender, text, events, is_over=True)
        if after.is_sick:
            return
        trouble.dropped += dropped
        if trouble.is_logged or dropped:
            trouble.is_logged = False
            self._log(sender, text)

    def _is_early_warning_due(self, sender: Sender, now_s: float) -> bool:
        if sender.link.blocked_reason:
            return False  # that is said already
        if now_s - self._warned_s.get(sender.address, -math.inf) < _EARLY_WARNING_S:
            return False
        self._warned_s[sender.address] = now_s
        return True

    def _words(self, condition: Condition, sender: Sender, course: Course) -> str:
        stats = sender.stats()
        left = f"{stats.waiting + stats.unconfirmed:,} events wait for it"
        if condition is Condition.BEHIND:
            what, consequence = "is behind", "transmit waits for it, for transmit_timeout at most"
            if not sender.link.is_connected:
                what, consequence = "is not connected", "its oldest events are dropped"
            limits = self._limits
            size = f"{limits.backlog_events:,} events or {limits.backlog_bytes:,} bytes"
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
        blocked = sender.link.blocked_reason
        reason = (
            f"It lets nobody publish: {blocked}"
            if blocked
            else "It is frozen, or its disk is; or what answers there is not RabbitMQ"
        )
        return (
            f"has confirmed nothing for {course.silent_s:.1f} s, and {left}: it counts as absent, "
            f"and when its backlog is full, its oldest events are dropped. {reason}"
        )

    def _log(self, sender: Sender, text: str) -> None:
        logger.warning("%s: the broker %s", sender.link.name, text)

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
