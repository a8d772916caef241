"""The brokers that other nodes have announced, while nobody else knows them.

Any holder of the key of the mesh may announce a broker, again and again, and under as many names as
it likes; perhaps it is a stolen robot. So a limited number of announced brokers is remembered
besides the members, and a limited number is probed in any time:

- Each announcer (the start of a node) stands for one broker: that of its latest announcement.
- A broker that is not known yet always gets in. If too many are remembered, one has to go: first
  of those at which nothing was found, then of those that were not probed yet, then of those that
  work and have no place. A member never goes. Chance decides between equals, so that whoever floods
  others with announcements cannot tell whom that hits.
- Each broker is probed now and then only, and all together at most `_PROBES_A_SECOND`.
- No name is looked up while many look-ups are under way: each takes a thread, for as long as a
  name server likes, which may be that of the announcer.
- A broker that is no longer announced is forgotten.

Pure: the clock is handed in. Not thread-safe: its owner locks.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..host_names import ip_of
from ..urls import Address

_MISSED_ANNOUNCEMENTS = 10
"""An announced broker that is no member is forgotten when its announcement has failed to come this
many times in a row."""

_MOST_LEFT = 8
"""The most former addresses that are remembered of a broker; its notices tell four."""

_UNDER_WAY_S = 5.0
"""For how long announcements of an address may still come that the broker has left."""

_PROBES_A_SECOND, _PROBES_AT_ONCE = 32.0, 64.0
"""How many announced brokers are probed. When a system starts, all of its nodes are announced
within a moment."""

_LOOK_UPS_AT_ONCE = 32
"""While so many look-ups of names are under way in the process, announced names wait."""

_MOST_ANNOUNCERS = 1_024
"""How many announcers are remembered, and the broker of each."""


class AnnouncementLimits(NamedTuple):
    """What is remembered of announcements.

    Attributes:
        most: how many announced brokers are remembered, besides the members.
        ask_again_s: seconds for which such a broker is not probed a second time.
        announce_s: seconds from one announcement of a node to its next.
    """

    most: int
    ask_again_s: float
    announce_s: float


@dataclass
class _Announced:
    first_s: float
    heard_s: float
    asked_s: float
    is_due: bool = False
    """It is to be probed."""
    works: bool | None = None
    """What the last probe has found; `None` before the first."""
    left: tuple[Address, ...] = ()
    """Where it was before, as was told, the latest first."""
    unseen: tuple[Address, ...] = ()
    """Those of them that nobody has looked at yet."""


class AnnouncedBrokers:
    """The brokers that other nodes have announced.

    Args:
        limits: how many are remembered, how often each is probed, and how often nodes announce.
        is_member: tells whether a broker is a member.
        choose: chooses one of several at random.
    """

    def __init__(
        self,
        limits: AnnouncementLimits,
        is_member: Callable[[Address], bool],
        choose: Callable[[Sequence[Address]], Address] = random.choice,
    ) -> None:
        self._limits = limits
        self._is_member = is_member
        self._choose = choose
        self._brokers: dict[Address, _Announced] = {}
        self._broker_of: OrderedDict[bytes, Address] = OrderedDict()
        self._announcers: Counter[Address] = Counter()
        self._allowance, self._allowed_s = _PROBES_AT_ONCE, 0.0
        self.crowded_out: int = 0
        """How many were forgotten before they were probed, or although they work."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those that are remembered, the one that was heard of first coming first."""
        return tuple(self._brokers)

    def heard_s(self, address: Address) -> float | None:
        """When a broker was announced last; `None` if it is not remembered."""
        broker = self._brokers.get(address)
        return None if broker is None else broker.heard_s

    def hear(self, address: Address, now_s: float, announcer: bytes = b"") -> bool:
        """Note an announcement.

        Args:
            address: the broker.
            now_s: the present time.
            announcer: stands for who has announced it; empty if that is not known.

        Returns:
            whether the broker is to be probed soon.
        """
        self._note_announcer(announcer, address)
        broker = self._brokers.get(address)
        if broker is None:
            self._make_room()
            asked_s = now_s - self._limits.ask_again_s
            broker = self._brokers[address] = _Announced(now_s, now_s, asked_s)
        broker.heard_s = now_s
        if now_s - broker.asked_s < self._limits.ask_again_s:
            return False
        broker.is_due = True
        return True

    def hear_again(self, address: Address, now_s: float, announcer: bytes = b"") -> None:
        """Note the announcement of a member, which need not have been announced before."""
        self._note_announcer(announcer, address)
        broker = self._brokers.get(address)
        if broker is not None:
            broker.heard_s = now_s

    def broker_of(self, announcer: bytes) -> Address | None:
        """The broker that an announcer has announced last."""
        return self._broker_of.get(announcer)

    def has_announcer(self, address: Address) -> bool:
        """Whether somebody has announced a broker, and no other since."""
        return address in self._announcers

    def _note_announcer(self, announcer: bytes, address: Address) -> None:
        if not announcer:
            return
        before = self._broker_of.get(announcer)
        self._broker_of[announcer] = address
        self._broker_of.move_to_end(announcer)
        if before == address:
            return
        self._announcers[address] += 1
        if before is not None:
            self._lose_announcer(before)
        elif len(self._broker_of) > _MOST_ANNOUNCERS:
            _, oldest = self._broker_of.popitem(last=False)
            self._lose_announcer(oldest, keeps=True)

    def _lose_announcer(self, address: Address, *, keeps: bool = False) -> None:
        self._announcers[address] -= 1
        if self._announcers[address] <= 0:
            del self._announcers[address]
            if not keeps and not self._is_member(address):
                self._brokers.pop(address, None)

    def _make_room(self) -> None:
        others = [at for at in self._brokers if not self._is_member(at)]
        if len(others) < self._limits.most:
            return
        for works in (False, None, True):
            some = [at for at in others if self._brokers[at].works is works]
            if some:
                del self._brokers[self._choose(some)]
                self.crowded_out += works is not False
                return

    def ask(self, address: Address) -> None:
        """Have a broker probed soon."""
        broker = self._brokers.get(address)
        if broker is not None:
            broker.is_due = True

    def take_due(self, now_s: float, look_ups: int = 0) -> tuple[Address, ...]:
        """Those to probe now, as many as may be; each is returned once.

        Args:
            now_s: the present time.
            look_ups: how many look-ups of names are under way in the process.
        """
        passed_s, self._allowed_s = now_s - self._allowed_s, now_s
        self._allowance = min(_PROBES_AT_ONCE, self._allowance + passed_s * _PROBES_A_SECOND)
        names = 0
        due: list[Address] = []
        for address, broker in self._brokers.items():
            if not broker.is_due or len(due) >= int(self._allowance):
                continue
            if ip_of(address.host) is None:
                if look_ups + names >= _LOOK_UPS_AT_ONCE:
                    continue
                names += 1
            due.append(address)
        self._allowance -= len(due)
        for address in due:
            broker = self._brokers[address]
            broker.is_due, broker.asked_s = False, now_s
        return tuple(due)

    def note(self, address: Address, *, works: bool) -> None:
        """Note what a probe has found."""
        broker = self._brokers.get(address)
        if broker is not None:
            broker.works, broker.is_due = works, False

    def hear_left(self, address: Address, left: Collection[Address]) -> bool:
        """Note where a broker that was announced was before; tells whether that is news."""
        broker = self._brokers.get(address)
        if broker is None:
            return False
        news = tuple(one for one in left if one not in broker.left)
        broker.left = (*news, *broker.left)[:_MOST_LEFT]
        broker.unseen = (*news, *broker.unseen)[:_MOST_LEFT]
        return bool(news)

    def take_left(self, address: Address) -> tuple[Address, ...]:
        """Where a broker was before, the latest first; each is returned once."""
        broker = self._brokers.get(address)
        if broker is None:
            return ()
        unseen, broker.unseen = broker.unseen, ()
        return unseen

    def lasts(self, address: Address) -> bool:
        """Whether a broker has been announced for longer than messages are under way."""
        broker = self._brokers.get(address)
        return broker is not None and broker.heard_s - broker.first_s > _UNDER_WAY_S

    def drop(self, address: Address) -> None:
        """Forget a broker that is there no longer; if it is announced again, it is asked."""
        self._brokers.pop(address, None)

    def forget(self, now_s: float) -> None:
        """Forget those that are no longer announced, except members."""
        silence_s = _MISSED_ANNOUNCEMENTS * self._limits.announce_s
        for address, broker in list(self._brokers.items()):
            if not self._is_member(address) and now_s - broker.heard_s > silence_s:
                del self._brokers[address]
