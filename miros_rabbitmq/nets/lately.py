"""What was done lately, so that it is not done again too soon.

Pure; the clock is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Lately:
    """Tells whether something may be done again. For one thread.

    Others can make up what it is asked about, so it remembers only so much; beyond that, nothing
    further may be done until something is long ago.

    Args:
        interval_s: each thing may be done once in this time.
        most: the most things that may be done in this time.
    """

    def __init__(self, interval_s: float, most: int) -> None:
        self._interval_s = interval_s
        self._most = most
        # The one done longest ago first.
        self._done_s: OrderedDict[Hashable, float] = OrderedDict()

    def may(self, what: Hashable, now_s: float) -> bool:
        """Tell whether it may be done now; if so, it counts as done.

        Args:
            what: it.
            now_s: a time of `time.monotonic`.
        """
        done_s = self._done_s
        while done_s and now_s - next(iter(done_s.values())) >= self._interval_s:
            done_s.popitem(last=False)
        if what in done_s or len(done_s) >= self._most:
            return False
        done_s[what] = now_s
        return True
