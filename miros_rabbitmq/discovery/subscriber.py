"""One node among those that a lookout searches for: it follows when members join or leave.

Each subscriber has a thread of its own for that, while there is something to follow. So a node that
is slow to follow holds up neither the search nor another node. What it has missed meanwhile comes
all at once: a subscriber knows what the members are and what its node has followed so far, and
nothing else waits.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from ..answers import Answers
from ..resources import news, shortage
from ..urls import Address, AmqpUrl
from ..worker import Worker
from .places import Evidence
from .roster import PeersChanged
from .search import Search

logger: logging.Logger = logging.getLogger(__name__)

_MOST_LINES = 8
"""A change of so many brokers gets a line in the log for each of them; a larger one gets one."""

_MOST_MOVES = 256
"""The most moves that wait for a node. Of one that is dropped, what waits there is given up."""

_IDLE_S = 1.0
"""The thread ends when nothing has changed for so long."""


class Follower(Protocol):
    """A node that publishes to the members, and follows when one joins or leaves.

    The first four are called in the subscriber's thread, one at a time, and may take their time.
    The others are called in the lookout's thread, must not wait, and hold up all nodes if they do.
    """

    def added(self, url: AmqpUrl, /) -> object:
        """Begin to publish to a broker."""

    def removed(self, urls: Sequence[AmqpUrl], /) -> Sequence[int]:
        """Stop publishing to brokers, to all at the same time.

        Returns:
            the number of events that were given up with each of them.
        """
        ...

    def moved(self, before: AmqpUrl, url: AmqpUrl, /) -> object:
        """Publish to a broker at another address, to which what waits at the former one goes.

        The follower may publish to it already.
        """

    def own_moved(self, url: AmqpUrl, /, *, is_gone: bool) -> object:
        """Reach the own broker at another address.

        ``is_gone`` tells that this machine does not have the former address any more.
        """

    def connected(self) -> Collection[Address]:
        """The members to which there is a working connection. Called in any thread."""
        ...

    def reached(self) -> Collection[Address]:
        """The same and those of which the broker confirms nothing.

        A probe of such a broker would tell that it works.
        """
        ...

    def evidence(self) -> Mapping[Address, Evidence]:
        """What the connections to the members show."""
        ...


class Own(NamedTuple):
    """Where the nodes' own broker is.

    Attributes:
        address: the address.
        is_gone: whether this machine does not have the former address any more.
    """

    address: Address
    is_gone: bool = False


class Subscriber:
    """Tells one node of the members. Any thread may call any method.

    Args:
        name: the chart's name, for the log and the thread.
        search: makes the URLs.
        own: the own broker, as the node knows it.
        follower: the node.
        on_change: called in the subscriber's thread with each change, after the node has followed
            it. Exceptions that it raises are logged.
        answers: knows what brokers have answered to the node, so that nothing is said twice.
    """

    def __init__(
        self,
        name: str,
        search: Search,
        own: Address,
        follower: Follower,
        on_change: Callable[[PeersChanged], object] | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.follower = follower
        self.answers: Answers = answers or Answers()
        self._name = f"miros discovery of {name}"
        self._search = search
        self._on_change = on_change
        # Guards what the node is to follow. Held for an assignment only.
        self._lock = threading.Lock()
        self._target: Mapping[Address, str] = {}
        self._moves: deque[tuple[Address, Address]] = deque(maxlen=_MOST_MOVES)
        self._new_own = Own(own)
        self._is_over = False
        self.is_behind: bool = False
        """The node could not follow, as something was short: it is to be shown the members anew."""
        # From here on: for the subscriber's thread only.
        self._own = own
        self._followed: dict[Address, None] = {}
        self._work: Worker[None] = Worker(self._name, self._follow_all, max_items=1, idle_s=_IDLE_S)

    def show(
        self,
        members: Mapping[Address, str],
        own: Own,
        moves: Sequence[tuple[Address, Address]] = (),
    ) -> None:
        """Have the node follow, in the subscriber's thread. Returns at once.

        Args:
            members: all members but the own broker, and how each became known, in words.
            own: the own broker.
            moves: members that are at another address now: the former, and the present one.
        """
        with self._lock:
            is_news = bool(moves) or members.keys() != self._target.keys() or own != self._new_own
            if self._is_over or not (is_news or self.is_behind):
                return
            self.is_behind = False
            self._target, self._new_own = dict(members), own
            self._moves.extend(moves)
        self._work.put(None)

    def wait_until_followed(self, timeout_s: float) -> bool:
        """Wait until the node has followed all that was shown so far; False after the time-out."""
        return self._work.drain(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Have the node follow nothing more, and wait for a call that is under way.

        Returns:
            False if that has not ended in time.
        """
        with self._lock:
            self._is_over = True
        return not self._work.stop(timeout_s)

    # The thread.

    def _follow_all(self, items: deque[None], _: int) -> None:
        items.clear()
        with self._lock:
            target, own = self._target, self._new_own
            moves = list(self._moves)
            self._moves.clear()
        if own.address != self._own:
            self._own = own.address
            self._followed.pop(own.address, None)
            url = self._search.url(own.address)
            self._call(lambda: self.follower.own_moved(url, is_gone=own.is_gone))
        before = tuple(self._followed)
        # The own broker took the place of a member that another node may still take for one.
        moves = [move for move in moves if move[0] in self._followed and move[1] in target]
        for former, now in moves:
            self._follow_move(former, now)
        self._remove([one for one in self._followed if one not in target])
        self._add([(one, how) for one, how in target.items() if one not in self._followed])
        left = [former for former, _ in moves]
        removed = [one for one in before if one not in self._followed and one not in left]
        added = [one for one in self._followed if one not in before]
        change = PeersChanged(tuple(added), (*removed, *left))
        if not change or self._is_over or self._on_change is None:
            return
        try:
            self._on_change(change)
        except Exception:
            logger.exception("%s: on_peers_changed raised", self._name)

    def _follow_move(self, former: Address, now: Address) -> None:
        urls = self._search.url(former), self._search.url(now)
        self._call(lambda: self.follower.moved(*urls))
        self._followed.pop(former, None)
        self._followed[now] = None
        logger.info("%s: the broker at %s is at %s now", self._name, former, now)

    def _add(self, added: Sequence[tuple[Address, str]]) -> None:
        count = 0
        for address, how in added:
            url = self._search.url(address)
            if not self._call(lambda url=url: self.follower.added(url)):  # type: ignore[misc]
                continue
            self._followed[address] = None
            count += 1
            level = logging.INFO if len(added) <= _MOST_LINES else logging.DEBUG
            logger.log(level, "%s: added the broker at %s (%s)", self._name, address, how)
        if len(added) > _MOST_LINES:
            logger.info("%s: added %d brokers", self._name, count)

    def _remove(self, addresses: Sequence[Address]) -> None:
        if not addresses or self._is_over:
            return
        for address in addresses:
            del self._followed[address]
        all_dropped: list[int] = []
        # Together, because one that does not answer takes seconds.
        urls = [self._search.url(one) for one in addresses]
        self._call(lambda: all_dropped.extend(self.follower.removed(urls)))
        total = sum(all_dropped)
        for address, dropped in zip(addresses, all_dropped, strict=False):
            if len(addresses) <= _MOST_LINES:
                log = logger.warning if dropped else logger.info
                log("%s: gave up the broker at %s, and %d events", self._name, address, dropped)
        if len(addresses) > _MOST_LINES:
            log = logger.warning if total else logger.info
            log("%s: gave up %d brokers, and %d events", self._name, len(addresses), total)

    def _call(self, step: Callable[[], object]) -> bool:
        """Have the node do something.

        Returns:
            whether that is done: False if it is to be tried again, or is not wanted any more.
        """
        if self._is_over:
            return False
        try:
            step()
        except Exception as error:
            short = shortage(error)
            if short is None:
                # A bug: the next change may succeed, and this one would fail again.
                logger.exception("%s: the node could not follow a change", self._name)
                return True
            text = "%s: a change of the brokers cannot be followed, trying again: %s"
            logger.log(news.level(short), text, self._name, short)
            self.is_behind = True
            return False
        return True
