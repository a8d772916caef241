"""What a session reports of its outages: that one began, and that it is over.

The attempts in between are for who debugs.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from ..exceptions import BrokerError

logger = logging.getLogger(__name__)


class Reporting(NamedTuple):
    """At which levels of `logging` a session reports that it is not connected.

    Whoever runs several sessions to one broker, and reports on it himself, lowers them.
    """

    first_failure: int = logging.WARNING
    """Before it was ever connected."""
    loss: int = logging.WARNING
    """When an established connection is lost, and when it is there again."""


WARNINGS = Reporting()
"""Every outage is warned about."""


class Outages:
    """Reports the outages of one session; not thread-safe.

    Args:
        name: the session's.
        reporting: at which levels.
    """

    def __init__(self, name: str, reporting: Reporting) -> None:
        self._name = name
        self._reporting = reporting
        self._was_connected = False
        self._is_reported = False

    def fail(self, fault: BrokerError) -> None:
        """Note that a connection was lost, or did not come about."""
        level = logging.DEBUG if self._is_reported else self._level
        logger.log(level, "%s: %s; trying again", self._name, fault)
        self._is_reported = True

    def succeed(self) -> None:
        """Note that a connection is ready."""
        if self._is_reported:
            logger.log(self._level, "%s: connected again", self._name)
        else:
            logger.info("%s: connected", self._name)
        self._is_reported = False
        self._was_connected = True

    @property
    def _level(self) -> int:
        return self._reporting.loss if self._was_connected else self._reporting.first_failure
