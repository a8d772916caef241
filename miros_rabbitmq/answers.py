"""What brokers have answered to one chart, so that each answer is said once in its log.

A chart has up to six links to one broker, and its discovery asks the broker, too. All of them get
the same answer, such as that a permission is missing. Whoever gets it first says it.
"""

from __future__ import annotations

import re

from .exceptions import BrokerError

_MOST_SAID = 256
"""The most answers that are remembered: who poses as a broker can give any number of them."""

_OUR_NAMES = re.compile(r"(?:miros\.|amq\.gen-)[\w.-]+")
"""The names of exchanges and queues. Each network has others, and some are new at each attempt."""


def gist(fault: BrokerError) -> str:
    """What a fault says, whichever of our exchanges or queues it names."""
    return _OUR_NAMES.sub("miros.*", str(fault))


class Answers:
    """Who has said which answer. Any thread may use it, also in the handler of a signal."""

    def __init__(self) -> None:
        # Each step is one operation of a dict, so that no lock is needed: a handler of a signal and
        # a forked child could wait for it for ever.
        self._said: dict[str, str] = {}
        self._left = ""

    def begin(self, host: str) -> None:
        """Forget everything, and leave the answers of one broker to the start until `release`.

        Args:
            host: the ``host:port`` of the broker, as faults name it.
        """
        self._said.clear()
        self._left = host

    def release(self) -> None:
        """Leave nothing to the start any more."""
        self._left = ""

    def claim(self, fault: BrokerError, who: str) -> bool:
        """Tell whether to say a fault, which is then said.

        Args:
            fault: what a broker has answered.
            who: who says it; a name that nobody else in the chart has.

        Returns:
            False if somebody else has said the same, or the start is to say it.
        """
        if self._left and fault.host == self._left:
            return False
        said = gist(fault)
        if said not in self._said and len(self._said) >= _MOST_SAID:
            self._said.pop(next(iter(tuple(self._said)), said), None)  # the oldest
        return self._said.setdefault(said, who) == who

    def forget(self, who: str) -> bool:
        """Note that the trouble of somebody is over: what comes then is said again.

        Returns:
            whether this one had said anything.
        """
        mine = [said for said, by in list(self._said.items()) if by == who]
        for said in mine:
            self._said.pop(said, None)
        return bool(mine)
