"""The thread of a node that words, shows and sends the lines of its snoops.

A chart hands a record over to this thread and goes on with its own work.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..worker import Worker
from .topic import TopicNetwork

logger: logging.Logger = logging.getLogger(__name__)

_MAX_TELLINGS = 5_000
"""The most tellings that wait. Each is one transition, or the spy lines of one event."""

_MAX_CHARACTERS = 4_000_000
"""The most characters of the lines in them."""

_PAUSE_S = 0.005
"""The least time between two rounds, so that the thread is not woken for every single line."""


class Teller(Worker["Telling"]):
    """Words, shows and sends lines, in one thread for each node.

    Args:
        name: the name of the chart, which becomes a part of the thread's name.
    """

    def __init__(self, name: str) -> None:
        title = f"miros snoop teller of {name}"
        super().__init__(
            title,
            self._tell,
            max_items=_MAX_TELLINGS,
            max_bytes=_MAX_CHARACTERS,
            pause_s=_PAUSE_S,
        )
        self._has_dropped = False

    def _tell(self, tellings: deque[Telling], dropped: int) -> None:
        if dropped and not self._has_dropped:
            logger.warning(
                "%s: lines are dropped from now on, because there are too many", self._name
            )
        self._has_dropped = dropped > 0
        while tellings:
            telling = tellings.popleft()
            try:
                telling.snoop.tell_now(telling)
            except Exception:
                # Some record could not be worded: its states and signals are the user's objects.
                logger.exception("%s: a line could not be told", self._name)


class TellingSnoop(Protocol):
    """What the teller uses of a snoop."""

    def tell_now(self, telling: Telling) -> None:
        """Show lines and send them. Called in the teller's thread."""

    def note_untold(self) -> None:
        """Count lines that were dropped to make room for others. Called in the chart's thread."""


class Telling(NamedTuple):
    """A piece of work that a chart hands over to the teller."""

    snoop: TellingSnoop
    network: TopicNetwork | None
    """The network that is open when the chart hands over; `None` for none. So lines from before a
    snoop is disabled still go out."""
    texts: Callable[[], Iterable[str]]
    """Words the lines, in the teller's thread."""
    colour: bool
    """Whether the lines may be coloured on this node's terminal."""
