"""The roster: which brokers a node knows, which it publishes to, and when it gives one up.

Pure: no I/O and no thread, and the clock is handed in. Its rules:

- The node's own broker is a member from the start, and for good. If this machine's address changes,
  the new one takes the place of the former.
- A broker that accepts our login becomes a member, however it became known. If nobody has written
  it down, it needs one of a limited number of `places`.
- A host that the *user* names (``addresses=`` or the hosts file) is expected to come: it becomes a
  member although it does not answer yet. It does not if its answer rules it out, such as a refused
  password.
- A member that was not seen for longer than ``forget_after_s`` is forgotten. It becomes a member
  again when it accepts our login again.
- A host that is no longer in the hosts file, and is known in no other way, is forgotten at once. So
  is a member that turns out to be another member under a second name.
- Any holder of the key of the mesh may announce a broker; `announced` says which are remembered.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..host_names import is_loopback
from ..urls import Address
from .announced import AnnouncedBrokers, AnnouncementLimits
from .outcome import ProbeOutcome, ProbeResult
from .places import Evidence, Kind, Places

_VOUCHED_ANNOUNCEMENTS = 3
"""For so many times ``announce_s``, the announcement of a broker speaks for it."""


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
    WAITING = "no member, as there is no place for it, or as it has confirmed nothing"


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
    """The brokers to which it publishes from now on."""
    removed: tuple[Address, ...] = ()
    """Those that it has given up."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass(frozen=True, kw_only=True)
class RosterLimits:
    """What a roster remembers, and for how long.

    Attributes:
        forget_after_s: seconds for which a member may be gone; 0 keeps it for good.
        most_found: how many brokers that were found on the LAN are members.
        most_announced: how many that are known by announcements alone are; and how many others of
            them are remembered.
        ask_again_s: seconds for which such a broker is not probed a second time.
        announce_s: seconds from one announcement of a node to its next.
    """

    forget_after_s: float
    most_found: int
    most_announced: int
    ask_again_s: float
    announce_s: float


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
        places: those for brokers that the user does not name; default by the limits.
    """

    def __init__(
        self, own: Address, now_s: float, limits: RosterLimits, places: Places | None = None
    ) -> None:
        self.own: Address = own
        self._forget_after_s = limits.forget_after_s
        self._vouched_s = _VOUCHED_ANNOUNCEMENTS * limits.announce_s
        self._places = places or Places(
            {Kind.FOUND: limits.most_found, Kind.ANNOUNCED: limits.most_announced}
        )
        self._announced = AnnouncedBrokers(
            AnnouncementLimits(limits.most_announced, limits.ask_again_s, limits.announce_s),
            self._is_member,
        )
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
            Peer(address, known.source, self._state(address, known, connected), known.outcome)
            for address, known in self._known.items()
            if known.is_member or known.source.by_user or _is_something(known.outcome)
        )

    def trust(self, addresses: Iterable[Address], last_seen_s: float, now_s: float) -> PeersChanged:
        """Make members of hosts that an earlier search found, before they are probed."""
        # The first that are found may be others: none of these waits for its turn.
        strangers = [one for one in dict.fromkeys(addresses) if one not in self._known]
        for address in strangers:
            self._places.want(address, Kind.FOUND)
        added = [one for one in self._places.turn(now_s).added if one in strangers]
        for address in strangers:
            if address in added:
                self._known[address] = _Known(
                    PeerSource.CACHE, is_member=True, last_seen_s=last_seen_s
                )
            else:
                self._places.leave(address)
        return PeersChanged(added=tuple(added))

    def candidates(self, sources: Mapping[Address, PeerSource]) -> tuple[Address, ...]:
        """The brokers to probe: the members, then all others that are known; each once.

        Members come first: if two names lead to one broker, the name that is in use stays.
        """
        return tuple(dict.fromkeys([*self.members, *sources]))

    def retain(self, sources: Mapping[Address, PeerSource]) -> PeersChanged:
        """Take over how hosts are known now, and drop those that the user no longer names.

        A broker that the user names now needs no place any more.
        """
        added, removed = [], []
        for address, known in list(self._known.items()):
            source = sources.get(address)
            if source is not None:
                known.source = source
                if source.by_user and address in self._places.all:
                    self._places.leave(address)
                    if not known.is_member and known.outcome is ProbeOutcome.CONNECTED:
                        self._join(address)
                        added.append(address)
                elif known.is_member and address in self._places.all:
                    self._places.want(address, _kind(source))
            elif not known.is_member:
                del self._known[address]
            elif known.source in (PeerSource.NAMED, PeerSource.HOSTS_FILE):
                del self._known[address]
                removed.append(address)
        self._places.retain(self._known)
        return PeersChanged(tuple(added), tuple(removed))

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
            self._announced.note(row.address, works=row.connected)
            by_user = known.source.by_user
            expected = by_user and row.outcome.transient and not known.given_up
            if not known.is_member and not by_user:
                if row.connected:
                    self._want(row.address, known.source, now_s)
                else:
                    self._places.lapse(row.address)
            elif not known.is_member and (row.connected or expected):
                known.last_seen_s = now_s
                self._join(row.address)
                added.append(row.address)
            elif (
                known.is_member
                and row.outcome is ProbeOutcome.DUPLICATE
                and row.address != self.own
            ):
                known.is_member = False
                self._places.leave(row.address)
                removed.append(row.address)
        seated = self._take_turns(now_s, {})
        return PeersChanged((*added, *seated.added), (*removed, *seated.removed))

    def _join(self, address: Address) -> None:
        # Members are in the order of joining.
        known = self._known[address] = self._known.pop(address)
        known.is_member = True

    def _want(self, address: Address, source: PeerSource, now_s: float) -> None:
        self._places.want(address, _kind(source))
        heard_s = self._announced.heard_s(address)
        if heard_s is not None:
            self._places.vouch(address, heard_s + self._vouched_s)

    def use_places(self, most: Mapping[Kind, int]) -> None:
        """Set how many places there are, from now on."""
        self._places.most = dict(most)

    def look(self, evidence: Mapping[Address, Evidence], now_s: float) -> PeersChanged:
        """Take in what the connections to the members show: who gets a place, and who loses one."""
        self._places.look(evidence, now_s)
        spare_of = {
            address: seen.spare_of
            for address, seen in evidence.items()
            if seen.spare_of is not None
        }
        return self._take_turns(now_s, spare_of)

    def _take_turns(self, now_s: float, spare_of: Mapping[Address, Address]) -> PeersChanged:
        turn = self._places.turn(now_s, spare_of)
        added, removed = [], []
        for address in turn.removed:
            known = self._known.get(address)
            if known is not None and known.is_member:
                known.is_member = False
                removed.append(address)
            if address not in self._places.all:
                self._announced.drop(address)
        for address in turn.added:
            known = self._known.get(address)
            if known is not None and not known.is_member:
                known.last_seen_s = now_s
                self._join(address)
                added.append(address)
        return PeersChanged(tuple(added), tuple(removed))

    def rests(self, address: Address, now_s: float) -> bool:
        """Whether a broker that has proven nothing is left alone for now."""
        return self._places.rests(address, now_s)

    def left_out(self, kind: Kind) -> int:
        """How many brokers of a kind accept our login, and have no place."""
        return len(self._places.waiting(kind))

    @property
    def announced(self) -> tuple[Address, ...]:
        """The brokers that other nodes have announced and that are remembered."""
        return self._announced.addresses

    def hear(
        self,
        address: Address,
        now_s: float,
        left: Collection[Address] = (),
        announcer: bytes = b"",
    ) -> bool:
        """Take in that another node has announced its own broker.

        Args:
            address: where the broker is.
            now_s: the present time.
            left: where it was before, the latest first.
            announcer: stands for the start of the node that has announced it; empty if that is not
                known.

        Returns:
            whether that broker is to be probed soon; see `take_due`.
        """
        before = self._announced.broker_of(announcer)
        is_to_be_asked = self._hear(address, now_s, left, announcer)
        if before is not None and not self._announced.has_announcer(before):
            self._places.disown(before, now_s)
        return is_to_be_asked

    def _hear(
        self, address: Address, now_s: float, left: Collection[Address], announcer: bytes
    ) -> bool:
        is_member = self._is_member(address)
        self._places.vouch(address, now_s + self._vouched_s)
        left = [one for one in left if self._member_at(one) not in (None, address)]
        if is_member and (not left or address == self.own):
            # As nearly always: nodes announce themselves every second.
            self._announced.hear_again(address, now_s, announcer)
            return False
        if self.means_this_machine(address):
            return False
        is_to_be_asked = self._announced.hear(address, now_s, announcer)
        is_news = self._announced.hear_left(address, left)
        if is_member and is_news:
            self._announced.ask(address)
        return is_news if is_member else is_to_be_asked

    def take_due(self, now_s: float, look_ups: int = 0) -> tuple[Address, ...]:
        """The announced brokers to probe now: a limited number in any time.

        Args:
            now_s: the present time.
            look_ups: how many look-ups of names are under way in the process.
        """
        return self._announced.take_due(now_s, look_ups)

    @property
    def crowded_out(self) -> int:
        """How many announced brokers were forgotten before they were probed."""
        return self._announced.crowded_out

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
        self._places.leave(address)
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
        self._places.leave(own)
        others = {address: known for address, known in self._known.items() if address != own}
        known = _Known(PeerSource.OWN, is_member=True, last_seen_s=now_s)
        self._known = {own: known, **others}

    def _is_member(self, address: Address) -> bool:
        known = self._known.get(address)
        return known is not None and known.is_member

    def _state(self, address: Address, known: _Known, connected: Collection[Address]) -> PeerState:
        if known.is_member:
            return PeerState.PRESENT if address in connected else PeerState.ABSENT
        is_waiting = known.outcome is ProbeOutcome.CONNECTED and address in self._places.all
        return PeerState.WAITING if is_waiting else PeerState.UNUSABLE

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
                self._places.miss(address, now_s)
                removed.append(address)
        self._announced.forget(now_s)
        return PeersChanged(removed=tuple(removed))


def _is_something(outcome: ProbeOutcome | None) -> bool:
    if outcome is None or outcome is ProbeOutcome.DUPLICATE:
        return False
    return not outcome.nothing_there


def _kind(source: PeerSource) -> Kind:
    return Kind.ANNOUNCED if source is PeerSource.HEARD else Kind.FOUND
