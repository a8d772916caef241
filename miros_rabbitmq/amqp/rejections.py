"""Counts what a receiver rejects, and warns of it, but never more often than helps."""

from __future__ import annotations

import math
import time
from collections import Counter

from ..exceptions import MessageRejected, RejectReason
from ..logs import RelayedLogger

logger = RelayedLogger(__name__)

_WARN_INTERVAL_S = 60.0
"""Each kind of warning is logged at most once in this time."""

_ONCE = frozenset({RejectReason.OTHER_FORMAT})
"""What does not change until somebody does something is said once."""


class Rejections:
    """The rejected messages and events of one receiver. Other threads may read `counts`.

    Args:
        name: the name of the receiver, for the log.
    """

    def __init__(self, name: str) -> None:
        self.counts: Counter[RejectReason] = Counter()
        self._name = name
        self._warned_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def count(self, error: MessageRejected, what: str) -> None:
        """Count something that was rejected.

        Args:
            error: why it was rejected.
            what: what it was, and of whom, for the log.
        """
        self.counts[error.reason] += 1
        interval_s = math.inf if error.reason in _ONCE else _WARN_INTERVAL_S
        kind = f"{error.reason.name} {error.cause}"
        self._warn(kind, interval_s, f"rejected {what} that is {error}")

    def warn(self, kind: str, text: str) -> None:
        """Warn of something else, at most once in a while for each kind."""
        self._warn(kind, _WARN_INTERVAL_S, text)

    def _warn(self, kind: str, interval_s: float, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s.get(kind, -math.inf) < interval_s:
            self._unsaid[kind] += 1
            return
        self._warned_s[kind] = now_s
        unsaid = self._unsaid.pop(kind, 0)
        more = f" (and {unsaid} more like it since the last such warning)" if unsaid else ""
        logger.warning("%s: %s%s", self._name, text, more)
