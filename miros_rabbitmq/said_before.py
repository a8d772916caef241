"""What this process has said lately, so that a long explanation is not repeated line by line.

The charts of a process meet the same faults at the same brokers, each on its own links and
networks. Each has its line, but only the first of them explains what to do; the others name the
fault, *as said before*. After ten minutes, or after the broker was reached again, the next line has
the whole text again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from .answers import gist
from .exceptions import BrokerError

KEEP_S = 600.0
"""For so long, what was said need not be said in full again: it is in the same part of the log."""

_MOST = 256
"""The most texts that are remembered: who poses as a broker can give any number of them."""

_AS_SAID = ", as said before"


class SaidBefore:
    """Remembers what was said. Any thread may use it, also in the handler of a signal.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Each step is one operation of a dict, so that no lock is needed: a handler of a signal and
        # a forked child could wait for it for ever.
        self._said_s: dict[tuple[str, Hashable], float] = {}

    def fault(self, fault: BrokerError) -> str:
        """What to say of a fault now: all of it, or what has happened without what to do."""
        text = str(fault)
        what = _without_remedy(text)
        if what == text:
            return text
        return self.once(gist(fault), text, f"{what}{_AS_SAID}", fault.host)

    def once(self, about: Hashable, text: str, brief: str, host: str = "") -> str:
        """What to say now.

        Args:
            about: what the text explains.
            text: the whole text.
            brief: what takes its place if the whole was said lately.
            host: the ``host:port`` of the broker that it is about, if it is over with that.
        """
        now_s = self._clock()
        key = host, about
        if now_s - self._said_s.get(key, -KEEP_S) < KEEP_S:
            return brief
        if key not in self._said_s and len(self._said_s) >= _MOST:
            self._said_s.pop(next(iter(tuple(self._said_s)), key), None)  # the oldest
        self._said_s[key] = now_s
        return text

    def over(self, host: str) -> None:
        """Note that a broker was reached: what fails after that is said in full again."""
        for key in [key for key in list(self._said_s) if key[0] == host]:
            self._said_s.pop(key, None)

    def forget(self) -> None:
        """Forget all of it."""
        self._said_s.clear()


def _without_remedy(text: str) -> str:
    """What comes before the first colon that is in no brackets; if there is none, all of it."""
    depth = 0
    for at, mark in enumerate(text):
        depth += (mark in "([") - (mark in ")]")
        if depth <= 0 and text.startswith(": ", at):
            return text[:at]
    return text


said_before: SaidBefore = SaidBefore()
"""That of this process."""
