"""The places for brokers that nobody has written down, and who gets them.

Brokers that were found on the LAN, or that others have announced, become members without anybody
having named them. Any program on the LAN can pose as one, at as many addresses as it likes: it
accepts every login, and then confirms nothing. So there is a limited number of places for brokers
of each of these two kinds; brokers that the user names need none. The rules:

- Whoever works when it is probed, and finds a free place, gets it.
- A broker is *proven* while it confirms what it gets. One that has never confirmed anything, though
  something was sent to it for `TRIAL_S`, gives its place up, and gets another chance after a pause,
  which grows each time.
- While others wait, so does one that is not proven `TRIAL_S` after it got the place, or has stopped
  confirming for so long. A few places (`_TRIAL_SHARE`) always go round among those that wait, as an
  impostor can confirm, too. A turn is enough for two nodes to meet: each announces itself, with the
  key of the mesh, to every broker that it sends to.
- A broker that a holder of the key has announced lately comes before others, keeps its place before
  others, and does not give it up by itself.
- A real broker has a few addresses: no more than `_MOST_SPARES` of them have places as spares.

Pure: no I/O and no thread; clock and chance are handed in. Not thread-safe: its owner locks.
"""

from __future__ import annotations

import enum
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..urls import Address

TRIAL_S = 30.0
"""For how long a broker may confirm nothing: several times what a busy one takes, and enough for
two nodes to hear each other's announcements."""

_TRIAL_SHARE = 0.25
"""The share of the places that go round while others wait, rounded up."""

_MOST_SPARES = 3
"""The most spares of one broker that have places: IPv4, IPv6 and a second interface."""

_PAUSE_S, _PAUSE_MOST_S = 60.0, 3600.0
"""The first and the longest pause of a broker that has not proven itself."""


class Kind(enum.Enum):
    """How a broker became known that nobody has written down."""

    FOUND = "found on the LAN"
    ANNOUNCED = "announced by a node"


class Evidence(NamedTuple):
    """What the connection to a member shows, at one moment.

    Attributes:
        confirms: how often the broker has confirmed something, since it was added.
        owes: something for it is not confirmed; `None` while it is not connected.
        spare_of: the address that is used in its place, as it leads to the same broker.
    """

    confirms: int
    owes: bool | None
    spare_of: Address | None = None


@dataclass
class _Claim:
    """A broker that has a place or wants one."""

    kind: Kind
    lot: float
    """Decides between those that have waited for equally many turns."""
    turns: int = 0
    """How often it had a place."""
    failures: int = 0
    """How often in a row it has proven nothing."""
    next_s: float = 0.0
    """When it may have its next turn."""
    works: bool = True
    """It has accepted our login when it was asked last."""
    vouched_until_s: float = -math.inf
    orphaned_s: float | None = None
    """Since when nobody announces it any more, as its announcer has announced another."""
    since_s: float | None = None
    """Since when it has a place; `None` if it waits."""
    confirms: int = 0
    owes_since_s: float | None = None

    def is_proven(self, now_s: float) -> bool:
        owes_s = 0.0 if self.owes_since_s is None else now_s - self.owes_since_s
        return self.confirms > 0 and owes_s < TRIAL_S

    def is_vouched(self, now_s: float) -> bool:
        return now_s < self.vouched_until_s

    def is_orphan(self, now_s: float) -> bool:
        """It is known by announcements alone, and those of it have ended."""
        orphaned_s = self.orphaned_s
        if orphaned_s is None or self.kind is not Kind.ANNOUNCED:
            return False
        return now_s - orphaned_s >= TRIAL_S

    def had_its_turn(self, now_s: float) -> bool:
        return self.since_s is not None and now_s - self.since_s >= TRIAL_S

    def has_failed(self, now_s: float) -> bool:
        """It was given something to confirm, and has never confirmed anything."""
        owes_s = 0.0 if self.owes_since_s is None else now_s - self.owes_since_s
        return self.confirms == 0 and owes_s >= TRIAL_S and not self.is_vouched(now_s)


class Turn(NamedTuple):
    """Who gets a place, and who loses one.

    Attributes:
        added: those that get one.
        removed: those that lose one.
    """

    added: tuple[Address, ...] = ()
    removed: tuple[Address, ...] = ()


class Places:
    """The places of one node.

    Args:
        most: how many places there are for brokers of each kind.
        chance: returns a random number; the order of those that have waited for equally many turns.
    """

    def __init__(
        self, most: Mapping[Kind, int], chance: Callable[[], float] = random.random
    ) -> None:
        self.most: dict[Kind, int] = dict(most)
        """How many places there are; may be changed, and counts from the next `turn` on."""
        self._chance = chance
        self._claims: dict[Address, _Claim] = {}

    def __contains__(self, address: Address) -> bool:
        claim = self._claims.get(address)
        return claim is not None and claim.since_s is not None

    @property
    def all(self) -> Collection[Address]:
        """Those that have or want a place."""
        return self._claims.keys()

    def waiting(self, kind: Kind) -> tuple[Address, ...]:
        """Those of a kind that work, but have no place."""
        if not self._claims:  # as where the user names all brokers; asked every two seconds
            return ()
        return tuple(
            address
            for address, claim in self._claims.items()
            if claim.kind is kind and claim.since_s is None and claim.works
        )

    def want(self, address: Address, kind: Kind) -> None:
        """Note that a broker works, and is of a kind; it gets a place at a later `turn`."""
        claim = self._claims.get(address)
        if claim is None:
            self._claims[address] = _Claim(kind, self._chance())
        else:
            claim.kind, claim.works = kind, True

    def lapse(self, address: Address) -> None:
        """Note that a broker without a place does not work now; its pause goes on."""
        claim = self._claims.get(address)
        if claim is not None:
            claim.works = False

    def vouch(self, address: Address, until_s: float) -> None:
        """Note that a holder of the key has announced a broker that wants or has a place."""
        claim = self._claims.get(address)
        if claim is not None:
            claim.vouched_until_s = max(claim.vouched_until_s, until_s)
            claim.orphaned_s = None

    def disown(self, address: Address, now_s: float) -> None:
        """Note that whoever has announced a broker announces another now."""
        claim = self._claims.get(address)
        if claim is not None:
            claim.vouched_until_s, claim.orphaned_s = -math.inf, now_s

    def rests(self, address: Address, now_s: float) -> bool:
        """Whether a broker is in a pause, so that it need not even be probed."""
        claim = self._claims.get(address)
        return claim is not None and claim.since_s is None and now_s < claim.next_s

    def leave(self, address: Address) -> None:
        """Forget a broker, such as one that works no longer or that needs no place."""
        self._claims.pop(address, None)

    def miss(self, address: Address, now_s: float) -> None:
        """Note that a broker that had a place was given up, because it was gone for too long."""
        claim = self._claims.get(address)
        if claim is not None:
            self._fail(claim, now_s)

    def retain(self, known: Collection[Address]) -> None:
        """Forget all others that have no place."""
        for address, claim in list(self._claims.items()):
            if claim.since_s is None and address not in known:
                del self._claims[address]

    def look(self, evidence: Mapping[Address, Evidence], now_s: float) -> None:
        """Take in what the connections show."""
        for address, claim in self._claims.items():
            seen = evidence.get(address)
            if claim.since_s is None or seen is None:
                continue
            if seen.confirms > claim.confirms or seen.owes is False:
                claim.owes_since_s = None
            elif claim.owes_since_s is None and seen.owes:
                claim.owes_since_s = now_s
            if seen.confirms > claim.confirms:
                claim.failures = 0
            claim.confirms = seen.confirms

    def turn(self, now_s: float, spare_of: Mapping[Address, Address] | None = None) -> Turn:
        """Decide who gets a place now and who loses one.

        Args:
            now_s: the present time.
            spare_of: the spares, and the address that is used in place of each.
        """
        if not self._claims:
            return Turn()
        removed = self._surplus_spares(now_s, spare_of or {})
        for address, claim in list(self._claims.items()):
            if claim.is_orphan(now_s):
                del self._claims[address]
                if claim.since_s is not None:
                    removed.append(address)
            elif claim.since_s is not None and claim.has_failed(now_s):
                self._fail(claim, now_s)
                removed.append(address)
        added: list[Address] = []
        for kind in Kind:
            more, fewer = self._turn_of(kind, now_s)
            added += more
            removed += fewer
        return Turn(tuple(added), tuple(removed))

    def _turn_of(self, kind: Kind, now_s: float) -> tuple[list[Address], list[Address]]:
        claims = {at: one for at, one in self._claims.items() if one.kind is kind}
        seated = {at: one for at, one in claims.items() if one.since_s is not None}
        waiting = [at for at in self.waiting(kind) if claims[at].next_s <= now_s]
        waiting.sort(key=lambda at: self._rank(claims[at], now_s))
        most = max(1, self.most[kind])
        # The last of these lose their places first.
        order = sorted(seated, key=lambda at: self._merit(seated[at], now_s))
        removed: list[Address] = []
        while len(order) > most:
            removed.append(order.pop())
        lasting = most - max(1, round(most * _TRIAL_SHARE))
        wanted = len(waiting) - (most - len(order))
        for at in order[::-1]:
            if wanted <= 0:
                break
            one = seated[at]
            # Of equals, the first keep their places; and those of whom nobody vouches get none of
            # somebody whom a holder of the key has announced.
            goes_round = order.index(at) >= lasting
            if one.is_vouched(now_s):
                heir = claims[waiting[len(waiting) - wanted]]
                goes_round = goes_round and heir.is_vouched(now_s)
            if not one.had_its_turn(now_s) or (one.is_proven(now_s) and not goes_round):
                continue
            removed.append(at)
            wanted -= 1
        for at in removed:
            one = seated[at]
            if one.owes_since_s is None or one.is_proven(now_s):
                self._unseat(one)
            else:
                self._fail(one, now_s)
        added = waiting[: max(0, most - len(seated) + len(removed))]
        for at in added:
            one = claims[at]
            one.since_s, one.confirms, one.owes_since_s = now_s, 0, None
            one.turns += 1
        return added, removed

    @staticmethod
    def _rank(claim: _Claim, now_s: float) -> tuple[bool, int, float]:
        return not claim.is_vouched(now_s), claim.turns, claim.lot

    @staticmethod
    def _merit(claim: _Claim, now_s: float) -> tuple[bool, bool, float]:
        since_s = claim.since_s if claim.since_s is not None else now_s
        return not claim.is_proven(now_s), not claim.is_vouched(now_s), since_s

    def _unseat(self, claim: _Claim) -> None:
        claim.since_s, claim.lot = None, self._chance()

    def _fail(self, claim: _Claim, now_s: float) -> None:
        pause_s = min(_PAUSE_MOST_S, _PAUSE_S * 2.0 ** min(claim.failures, 30))
        claim.failures += 1
        claim.next_s = now_s + pause_s
        self._unseat(claim)

    def _surplus_spares(self, now_s: float, spare_of: Mapping[Address, Address]) -> list[Address]:
        count: Counter[Address] = Counter()
        removed = []
        seated = [at for at, one in self._claims.items() if one.since_s is not None]
        for address in sorted(seated, key=lambda at: self._claims[at].since_s or 0.0):
            used = spare_of.get(address)
            if used is None:
                continue
            count[used] += 1
            if count[used] > _MOST_SPARES:
                claim = self._claims[address]
                self._fail(claim, now_s)
                claim.next_s = now_s + _PAUSE_MOST_S
                removed.append(address)
        return removed
