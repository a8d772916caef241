"""The thread of a node in which the lines of its snoops are worded, shown and sent.

A chart only hands over what is to be told, and goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..worker import Worker
from .topic import TopicNetwork

logger = logging.getLogger(__name__)

_MAX_TELLINGS = 5_000
"""What may wait for the teller; one is a transition, or the spy lines of one event."""

_PAUSE_S = 0.005
"""Between two rounds of the teller: it wakes for the first line, and then at most this often."""


class Teller(Worker["Telling"]):
    """The thread of one node in which lines are worded, shown and sent.

    Args:
        name: the chart; a part of the thread's name.
    """

    def __init__(self, name: str) -> None:
        title = f"miros snoop teller of {name}"
        super().__init__(title, self._tell, max_items=_MAX_TELLINGS, pause_s=_PAUSE_S)
        self._has_dropped = False

    def _tell(self, tellings: deque[Telling], dropped: int) -> None:
        if dropped and not self._has_dropped:
            logger.warning("%s: from now on lines are dropped: there are too many", self._name)
        self._has_dropped = dropped > 0
        for telling in tellings:
            try:
                telling.snoop.tell_now(telling)
            except Exception:
                # Of a record that cannot be worded, as the states and signals are the user's.
                logger.exception("%s: a line could not be told", self._name)


class TellingSnoop(Protocol):
    """A snoop, as far as the teller knows it."""

    def tell_now(self, telling: Telling) -> None:
        """Show lines, and send them; in the teller's thread."""

    def note_untold(self) -> None:
        """Count lines that went to make place for others."""


class Telling(NamedTuple):
    """What a chart hands over to the teller."""

    snoop: TellingSnoop
    network: TopicNetwork | None
    """Open at the time; lines that are told before a snoop is disabled still go out."""
    texts: Callable[[], Iterable[str]]
    """Words the lines."""
    colour: bool
