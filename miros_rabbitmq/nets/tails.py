"""When a node tells a broker the last numbers of its events, and which of them.

Receivers find a loss when a later number comes. Of the last events of a sender that falls silent,
or dies, no later number tells. So a sender tells its last numbers shortly after it fell silent, and
again with later announcements, less and less often. It tells a broker only of events that this
broker has confirmed, or that were given up for it: the notice would overtake those that wait.

Pure; the clock is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ..wire.notice import MOST_NUMBERS


class Tail:
    """When one broker is told. For one thread.

    Args:
        least_s: the least time between two times that it is told because the node fell silent: a
            node that sends an event now and then does not send a notice behind each.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._is_asked = False
        self._seen = 0
        self._told = 0
        self._told_s: float | None = None
        self._repeats = 0

    def ask(self) -> None:
        """Have the broker told at the next opportunity, whether or not there is news."""
        self._is_asked = True

    def ask_again(self, sent: int) -> None:
        """Have the broker told again, at some of the times that this is called.

        What was told already may have been lost, so it is told again at the first, second, fourth
        and so on: with many charts that are silent, this would be most of what they say.

        Args:
            sent: how many events the node has sent.
        """
        if sent != self._told:
            self._is_asked = True
            return
        self._repeats += 1
        if self._repeats & (self._repeats - 1) == 0:
            self._is_asked = True

    def is_due(self, sent: int, now_s: float) -> bool:
        """Tell whether to tell now. To be asked at regular intervals.

        Args:
            sent: how many events the node has sent.
            now_s: a time of `time.monotonic`.
        """
        is_silent, self._seen = sent == self._seen, sent
        if self._is_asked:
            return sent > 0
        is_soon = self._told_s is not None and now_s - self._told_s < self._least_s
        return is_silent and sent != self._told and not is_soon

    def note_told(self, sent: int, now_s: float) -> None:
        """Note that the broker was told, when the node had sent so many events or more."""
        self._is_asked = False
        if sent != self._told:
            self._repeats = 0
        self._told = sent
        self._told_s = now_s


class RecentKeys:
    """The routing keys that were used most recently. For one thread."""

    def __init__(self) -> None:
        # The one used most recently last.
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._numbers: Mapping[str, int] = {}

    def choose(self, numbers: Mapping[str, int]) -> list[tuple[str, int]]:
        """Pick those to tell of, and their last numbers.

        Args:
            numbers: the last number by each routing key.
        """
        recent = self._recent
        for key, number in numbers.items():
            if self._numbers.get(key) != number:
                recent[key] = None
                recent.move_to_end(key)
                if len(recent) > MOST_NUMBERS:
                    recent.popitem(last=False)
        self._numbers = numbers
        return [(key, numbers[key]) for key in recent if key in numbers]
