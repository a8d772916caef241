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


class Rejections:
    """The rejected messages and events of one receiver. Other threads may read `counts`.

    Args:
        name: the name of the receiver, for the log.
    """

    def __init__(self, name: str) -> None:
        self.counts: Counter[RejectReason] = Counter()
        self._name = name
        self._warned_s: dict[str, float] = {}

    def count(self, error: MessageRejected) -> None:
        """Count something that was rejected."""
        self.counts[error.reason] += 1
        if error.reason is RejectReason.OTHER_FORMAT:
            # Each of the few texts once, as this does not change until somebody upgrades.
            self._warn(str(error), math.inf, f"rejected a message that is {error}")
        else:
            reason = error.reason.value
            self._warn(reason, _WARN_INTERVAL_S, f"rejected a message that is {error}")

    def warn(self, kind: str, text: str) -> None:
        """Warn of something else, at most once in a while for each kind."""
        self._warn(kind, _WARN_INTERVAL_S, text)

    def _warn(self, kind: str, interval_s: float, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s.get(kind, -math.inf) >= interval_s:
            self._warned_s[kind] = now_s
            logger.warning("%s: %s", self._name, text)
