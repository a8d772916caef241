"""One attempt at a time for each broker that does not answer, whoever wants to connect to it.

A node has up to four links to one broker, and a process may have many nodes. While a broker
answers, each link connects by itself. Once an attempt has failed, the links of this process take
turns: one tries, and the others wait for the result. If it succeeds, all of them connect at once. A
turn ends by itself after a while, because the thread of the link that has it may be stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..exceptions import BrokerError
from ..process import Stage, disown_in_child


class Attempt(Protocol):
    """A link that wants to connect. Both methods return at once; any thread may call them."""

    def on_broker_back(self) -> None:
        """Connect, unless that is under way: the broker may answer now."""

    def on_others_failure(self, fault: BrokerError) -> None:
        """Note that the broker has not answered the link that had the turn."""


class _Absent:
    """A broker whose last attempt has failed."""

    def __init__(self) -> None:
        self.trying: Attempt | None = None
        self.since_s = 0.0
        self.links: dict[Attempt, None] = {}


class Attempts:
    """The attempts of one process, by the URL of the broker. Any thread may use it.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Reentrant, because a signal handler may stop a link.
        self._lock = threading.RLock()
        self._absent: dict[str, _Absent] = {}
        disown_in_child(self, Stage.CONNECTIONS)

    def begin(self, url: str, link: Attempt, patience_s: float) -> bool:
        """Ask for a turn.

        Args:
            url: the broker's.
            link: who asks.
            patience_s: longer than this no attempt takes, in seconds: who has had the turn for as
                long is stuck, and loses it.

        Returns:
            whether the link may try now; otherwise it is told when that changes, and asks again
            after ``patience_s``.
        """
        with self._lock:
            broker = self._absent.get(url)
            if broker is None:
                return True
            broker.links[link] = None
            now_s = self._clock()
            if broker.trying is None or now_s - broker.since_s >= patience_s:
                broker.trying = link
                broker.since_s = now_s
            return broker.trying is link

    def succeed(self, url: str, link: Attempt) -> None:
        """Note that a link is connected: all others connect now."""
        with self._lock:
            broker = self._absent.pop(url, None)
        if broker is not None:
            for other in broker.links:
                if other is not link:
                    other.on_broker_back()

    def fail(self, url: str, link: Attempt, fault: BrokerError) -> None:
        """Note that a connection was lost or did not come about; tell those who wait for it."""
        with self._lock:
            broker = self._absent.setdefault(url, _Absent())
            broker.links[link] = None
            if broker.trying not in (None, link):
                return
            broker.trying = None
            others = [other for other in broker.links if other is not link]
        for other in others:
            other.on_others_failure(fault)

    def withdraw(self, url: str, link: Attempt) -> None:
        """Take part no longer, as the link stops: another has its turn."""
        with self._lock:
            broker = self._absent.get(url)
            if broker is None:
                return
            broker.links.pop(link, None)
            if not broker.links:
                del self._absent[url]
            if broker.trying is not link:
                return
            broker.trying = None
            others = list(broker.links)
        for other in others:
            other.on_broker_back()

    def disown(self) -> None:
        """Forget the attempts of the parent, in a forked child."""
        self._lock = threading.RLock()
        self._absent = {}
