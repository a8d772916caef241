"""The roster: which brokers a node knows, which it publishes to, and when it gives one up.

Pure: no I/O and no thread, and the clock is handed in. Its rules:

- The node's own broker is a member from the start, and for good. If this machine's address changes,
  the new one takes the place of the former.
- A broker that accepts our login becomes a member, however it became known.
- A host that the *user* names (``addresses=`` or the hosts file) is expected to come: it becomes a
  member although it does not answer yet. It does not if its answer rules it out, such as a refused
  password.
- A member that was not seen for longer than ``forget_after_s`` is forgotten. It becomes a member
  again when it accepts our login again.
- A host that is no longer in the hosts file, and is known in no other way, is forgotten at once. So
  is a member that turns out to be another member under a second name.
- Any holder of the key of the mesh may announce a broker (`AnnouncedBrokers`). The roster therefore
  remembers a limited number of announced brokers, has each probed only now and then, and forgets
  one that is no longer announced.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..host_names import is_loopback
from ..urls import Address
from .outcome import ProbeOutcome, ProbeResult

_MISSED_ANNOUNCEMENTS = 10
"""An announced broker that is no member is forgotten when its announcement has failed to come this
many times in a row."""


_MOST_LEFT = 8
"""The most former addresses that are remembered of a broker; its notices tell four."""


_UNDER_WAY_S = 5.0
"""For how long announcements of an address may still come that the broker has left."""


class PeerSource(enum.Enum):
    """How a broker became known. If it did so in several ways, the first of these counts."""

    OWN = "this node's own"
    NAMED = "named by addresses="
    HOSTS_FILE = "named in the hosts file"
    LAN = "found on the LAN"
    HEARD = "announced by a node that was heard"
    CACHE = "found on the LAN by an earlier search"

    @property
    def by_user(self) -> bool:
        """True when somebody has written this broker's address down."""
        return self in (PeerSource.OWN, PeerSource.NAMED, PeerSource.HOSTS_FILE)


class PeerState(enum.Enum):
    """Whether a node publishes to a broker, and whether that works at present."""

    PRESENT = "a member that works"
    ABSENT = "a member that does not answer now"
    UNUSABLE = "no member, for the outcome of its probe"


@dataclass(frozen=True)
class Peer:
    """A broker that a node knows; the node's own is one of them.

    Attributes:
        address: where it listens.
        source: how it became known.
        state: whether the node publishes to it, and whether that works at present.
        outcome: the outcome of its last probe; `None` before the first.
        spare_of: the address to which events go instead, as it leads to the same broker or cluster;
            `None` if they go to this one.
    """

    address: Address
    source: PeerSource
    state: PeerState
    outcome: ProbeOutcome | None = None
    spare_of: Address | None = None


class PeersChanged(NamedTuple):
    """Which brokers a node has begun to publish to, and which it has given up."""

    added: tuple[Address, ...] = ()
    removed: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass(frozen=True, kw_only=True)
class RosterLimits:
    """What a roster remembers, and for how long.

    Attributes:
        forget_after_s: seconds for which a member may be gone; 0 keeps it for good.
        most_announced: how many brokers are remembered that are known by announcements alone.
        ask_again_s: seconds for which such a broker is not probed a second time.
        announce_s: seconds from one announcement of a node to its next.
    """

    forget_after_s: float
    most_announced: int
    ask_again_s: float
    announce_s: float


@dataclass
class _Announced:
    first_s: float
    heard_s: float
    asked_s: float
    left: tuple[Address, ...] = ()
    """Where it was before, as was told, the latest first."""
    unseen: tuple[Address, ...] = ()
    """Those of them that nobody has looked at yet."""


class AnnouncedBrokers:
    """The brokers that other nodes have announced. Not thread-safe: its owner locks.

    Args:
        limits: how many are remembered, how often each is probed, and how often nodes announce.
    """

    def __init__(self, limits: RosterLimits) -> None:
        self._most = limits.most_announced
        self._ask_again_s = limits.ask_again_s
        self._silence_s = _MISSED_ANNOUNCEMENTS * limits.announce_s
        self._brokers: dict[Address, _Announced] = {}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those that are remembered, the one that was heard of first coming first."""
        return tuple(self._brokers)

    def hear(self, address: Address, now_s: float) -> bool | None:
        """Note an announcement.

        Returns:
            whether the broker is to be probed now; `None` if it is not remembered, as there are
            too many.
        """
        broker = self._brokers.get(address)
        if broker is None:
            if len(self._brokers) >= self._most:
                return None
            broker = self._brokers[address] = _Announced(now_s, now_s, now_s - self._ask_again_s)
        broker.heard_s = now_s
        if now_s - broker.asked_s < self._ask_again_s:
            return False
        broker.asked_s = now_s
        return True

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

    def forget(self, members: Collection[Address], now_s: float) -> None:
        """Forget those that are no longer announced, except members."""
        for address, broker in list(self._brokers.items()):
            if address not in members and now_s - broker.heard_s > self._silence_s:
                del self._brokers[address]


@dataclass
class _Known:
    source: PeerSource
    is_member: bool = False
    outcome: ProbeOutcome | None = None
    ip: str = ""
    """That to which its host resolved in the last probe."""
    last_seen_s: float = 0.0
    given_up: bool = False
    """It was a member and was forgotten. It is not expected to come, even if the user names it."""


class Roster:
    """The brokers that a node knows. Not thread-safe: its owner locks.

    All times are of one clock that never goes back, such as `time.monotonic`, in seconds.

    Attributes:
        own: the node's own broker; `move_own` changes it.

    Args:
        own: the node's own broker.
        now_s: the present time.
        limits: what to remember, and for how long.
    """

    def __init__(self, own: Address, now_s: float, limits: RosterLimits) -> None:
        self.own = own
        self._forget_after_s = limits.forget_after_s
        self._announced = AnnouncedBrokers(limits)
        self._known: dict[Address, _Known] = {
            own: _Known(PeerSource.OWN, is_member=True, last_seen_s=now_s)
        }

    @property
    def members(self) -> tuple[Address, ...]:
        """The brokers to publish to: the node's own, then the others in the order of joining."""
        return tuple(address for address, known in self._known.items() if known.is_member)

    def source_of(self, address: Address) -> PeerSource | None:
        """How an address became known; `None` if it is not known."""
        known = self._known.get(address)
        return None if known is None else known.source

    def was_asked(self, address: Address) -> bool:
        """Whether a broker was probed since it became known."""
        known = self._known.get(address)
        return known is not None and known.outcome is not None

    def found_on_lan(self) -> tuple[Address, ...]:
        """The members that were found on the LAN and worked when they were last probed."""
        return tuple(
            address
            for address, known in self._known.items()
            if known.is_member
            and known.source is PeerSource.LAN
            and known.outcome is ProbeOutcome.CONNECTED
        )

    def peers(self, connected: Collection[Address]) -> tuple[Peer, ...]:
        """What to tell the user of: members, hosts that the user names, and hosts that answer.

        A host of the LAN at which nothing listens is left out.

        Args:
            connected: the brokers to which there is a working connection.
        """
        return tuple(
            Peer(address, known.source, _state(known, address in connected), known.outcome)
            for address, known in self._known.items()
            if known.is_member or known.source.by_user or _is_something(known.outcome)
        )

    def trust(self, addresses: Iterable[Address], last_seen_s: float) -> PeersChanged:
        """Make members of hosts that an earlier search found, before they are probed."""
        added = []
        for address in addresses:
            if address not in self._known:
                self._known[address] = _Known(
                    PeerSource.CACHE, is_member=True, last_seen_s=last_seen_s
                )
                added.append(address)
        return PeersChanged(added=tuple(added))

    def candidates(self, sources: Mapping[Address, PeerSource]) -> tuple[Address, ...]:
        """The brokers to probe: the members, then all others that are known; each once.

        Members come first: if two names lead to one broker, the name that is in use stays.
        """
        return tuple(dict.fromkeys([*self.members, *sources]))

    def retain(self, sources: Mapping[Address, PeerSource]) -> PeersChanged:
        """Take over how hosts are known now, and drop those that the user no longer names."""
        removed = []
        for address, known in list(self._known.items()):
            source = sources.get(address)
            if source is not None:
                known.source = source
            elif not known.is_member:
                del self._known[address]
            elif known.source in (PeerSource.NAMED, PeerSource.HOSTS_FILE):
                del self._known[address]
                removed.append(address)
        return PeersChanged(removed=tuple(removed))

    def judge(
        self, rows: Iterable[ProbeResult], sources: Mapping[Address, PeerSource], now_s: float
    ) -> PeersChanged:
        """Take in the results of probes: who joins, and who is a member under a second name.

        Args:
            rows: the results.
            sources: how each of the candidates became known.
            now_s: the present time.
        """
        added, removed = [], []
        for row in rows:
            source = sources.get(row.address)
            known = self._known.get(row.address)
            if known is None:
                if source is None:
                    continue
                known = self._known[row.address] = _Known(source)
            known.outcome, known.ip = row.outcome, row.ip
            if row.connected:
                known.last_seen_s = now_s
                known.given_up = False
            expected = known.source.by_user and row.outcome.transient and not known.given_up
            if not known.is_member and (row.connected or expected):
                known.is_member = True
                known.last_seen_s = now_s
                # Members are in the order of joining.
                self._known[row.address] = self._known.pop(row.address)
                added.append(row.address)
            elif (
                known.is_member
                and row.outcome is ProbeOutcome.DUPLICATE
                and row.address != self.own
            ):
                known.is_member = False
                removed.append(row.address)
        return PeersChanged(tuple(added), tuple(removed))

    @property
    def announced(self) -> tuple[Address, ...]:
        """The brokers that other nodes have announced and that are remembered."""
        return self._announced.addresses

    def hear(self, address: Address, now_s: float, left: Collection[Address] = ()) -> bool | None:
        """Take in that another node has announced its own broker.

        Args:
            address: where the broker is.
            now_s: the present time.
            left: where it was before, the latest first.

        Returns:
            whether that broker is to be probed now; `None` if it is not remembered, as there are
            too many.
        """
        known = self._known.get(address)
        is_member = known is not None and known.is_member
        left = [one for one in left if self._member_at(one) not in (None, address)]
        if is_member and (not left or address == self.own):
            return False  # as nearly always: nodes announce themselves every second
        if self.means_this_machine(address):
            return False
        is_to_be_asked = self._announced.hear(address, now_s)
        is_news = self._announced.hear_left(address, left)
        return is_news if is_member else is_to_be_asked

    def is_announced_lastingly(self, address: Address) -> bool:
        """Whether a broker is announced again and again, so that it cannot have just moved."""
        return self._announced.lasts(address)

    def means_this_machine(self, address: Address) -> bool:
        """Whether an address that another machine announces would lead to this machine here."""
        return is_loopback(address.host) and not is_loopback(self.own.host)

    def take_left(self, address: Address) -> tuple[tuple[Address, Address], ...]:
        """The members that are former addresses of a member, the oldest first; each only once.

        Returns:
            pairs of the member, which may be known by its name, and of the address that was left.
        """
        if address not in self.members:
            return ()
        found = []
        for left in reversed(self._announced.take_left(address)):
            member = self._member_at(left)
            if member is not None and member != address:
                found.append((member, left))
        return tuple(found)

    def _member_at(self, left: Address) -> Address | None:
        """The member, other than the own broker, at an address, or whose name led there."""
        for address, known in self._known.items():
            is_there = address == left or (known.ip, address.port) == left
            if known.is_member and is_there and address != self.own:
                return address
        return None

    def leave(self, address: Address) -> None:
        """Note that a member's broker has left its address.

        It becomes a member again when it accepts our login there. Until then it is not expected to
        come, even if the user names it.
        """
        known = self._known[address]
        known.is_member, known.given_up, known.outcome = False, True, None
        if not known.source.by_user:
            del self._known[address]
        self._announced.drop(address)

    def move_own(self, own: Address, now_s: float) -> None:
        """Note that the node's own broker is at another address; the former one is forgotten.

        Where the former one is known in another way, too, it is a candidate like any other.
        """
        if own == self.own:
            return
        before, self.own = self.own, own
        del self._known[before]
        others = {address: known for address, known in self._known.items() if address != own}
        known = _Known(PeerSource.OWN, is_member=True, last_seen_s=now_s)
        self._known = {own: known, **others}

    def see(self, addresses: Iterable[Address], now_s: float) -> None:
        """Note that there is a working connection to these brokers at this moment."""
        for address in addresses:
            known = self._known.get(address)
            if known is not None and known.is_member:
                known.last_seen_s = now_s

    def forget(self, now_s: float) -> PeersChanged:
        """Forget members that were not seen for too long, and brokers no longer announced.

        A member is not forgotten before it was probed.
        """
        removed = []
        for address, known in self._known.items():
            gone_s = now_s - known.last_seen_s
            if (
                known.is_member
                and address != self.own
                and known.outcome is not None
                and 0 < self._forget_after_s < gone_s
            ):
                known.is_member = False
                known.given_up = True
                removed.append(address)
        self._announced.forget(self.members, now_s)
        return PeersChanged(removed=tuple(removed))


def _is_something(outcome: ProbeOutcome | None) -> bool:
    if outcome is None or outcome is ProbeOutcome.DUPLICATE:
        return False
    return not outcome.nothing_there


def _state(known: _Known, is_connected: bool) -> PeerState:
    if not known.is_member:
        return PeerState.UNUSABLE
    return PeerState.PRESENT if is_connected else PeerState.ABSENT
