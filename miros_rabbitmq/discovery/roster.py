"""The roster: which brokers a node publishes to, how each became known, and when it is given up.

Pure: no I/O, no thread; the clock is handed in. Its rules:

- The own broker is a member from the start, for good.
- A host that takes our credentials becomes a member, however it became known.
- A host that the *user* names (``addresses=``, the hosts file) is a member already while it does
  not answer, for it is expected to come; not one that has answered that it cannot be a member.
- A member that was not seen for longer than ``forget_after`` is forgotten; it becomes a member
  again when it takes our credentials again.
- A host that has left the hosts file, and is known in no other way, is forgotten at once; so is a
  member that turns out to be another member under another name.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..urls import Address
from .outcome import ProbeOutcome, ProbeResult


class PeerSource(enum.Enum):
    """How a broker became known; where in several ways, the first of these."""

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
    """Where a broker stands."""

    PRESENT = "a member that works"
    ABSENT = "a member that does not answer now"
    UNUSABLE = "no member, for the outcome of its probe"


@dataclass(frozen=True)
class Peer:
    """A broker that is known, this node's own included.

    Attributes:
        address: where it is.
        source: how it became known.
        state: where it stands.
        outcome: what came of the last probe; `None` before the first.
    """

    address: Address
    source: PeerSource
    state: PeerState
    outcome: ProbeOutcome | None = None


class PeersChanged(NamedTuple):
    """Which brokers a node has begun to publish to, and which it has given up."""

    added: tuple[Address, ...] = ()
    removed: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass
class _Known:
    source: PeerSource
    is_member: bool = False
    outcome: ProbeOutcome | None = None
    last_seen_s: float = 0.0
    given_up: bool = False
    """It was a member, and forgotten: not even one that the user names is expected any more."""


class Roster:
    """The brokers that are known. Not thread-safe: its owner locks.

    Args:
        own: the node's own broker.
        forget_after_s: how long a member may be gone; 0 for ever.
        now_s: the present time.
    """

    def __init__(self, own: Address, forget_after_s: float, now_s: float) -> None:
        self._own = own
        self._forget_after_s = forget_after_s
        self._known: dict[Address, _Known] = {
            own: _Known(PeerSource.OWN, is_member=True, last_seen_s=now_s)
        }

    @property
    def members(self) -> tuple[Address, ...]:
        """Those to publish to, the own first, then by the time they joined."""
        return tuple(address for address, known in self._known.items() if known.is_member)

    def source_of(self, address: Address) -> PeerSource | None:
        """How an address became known; `None` when it is not."""
        known = self._known.get(address)
        return None if known is None else known.source

    def was_asked(self, address: Address) -> bool:
        """Whether it was probed since it became known."""
        known = self._known.get(address)
        return known is not None and known.outcome is not None

    def found_on_lan(self) -> tuple[Address, ...]:
        """The members that the LAN has, and that worked when they were probed."""
        return tuple(
            address
            for address, known in self._known.items()
            if known.is_member
            and known.source is PeerSource.LAN
            and known.outcome is ProbeOutcome.CONNECTED
        )

    def peers(self, connected: Collection[Address]) -> tuple[Peer, ...]:
        """All that are worth a look: members, and hosts at which there is something.

        A host of the LAN at which nothing listens is not among them.
        """
        return tuple(
            Peer(address, known.source, _state(known, address in connected), known.outcome)
            for address, known in self._known.items()
            if known.is_member or known.source.by_user or _is_something(known.outcome)
        )

    def trust(self, addresses: Iterable[Address], last_seen_s: float) -> PeersChanged:
        """Make members of hosts that an earlier search has found; they are verified later."""
        added = []
        for address in addresses:
            if address not in self._known:
                self._known[address] = _Known(
                    PeerSource.CACHE, is_member=True, last_seen_s=last_seen_s
                )
                added.append(address)
        return PeersChanged(added=tuple(added))

    def candidates(self, sources: Mapping[Address, PeerSource]) -> tuple[Address, ...]:
        """Whom to probe: the members, then all others that are known; each once.

        Members come first, so that of two names of one broker the one in use stays.
        """
        return tuple(dict.fromkeys([*self.members, *sources]))

    def retain(self, sources: Mapping[Address, PeerSource]) -> PeersChanged:
        """Adopt how hosts are known now, and let go of those that the user names no longer."""
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
        """Take what came of probing: who joins, and who turned out to be another."""
        added, removed = [], []
        for row in rows:
            source = sources.get(row.address)
            known = self._known.get(row.address)
            if known is None:
                if source is None:
                    continue
                known = self._known[row.address] = _Known(source)
            known.outcome = row.outcome
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
                and row.address != self._own
            ):
                known.is_member = False
                removed.append(row.address)
        return PeersChanged(tuple(added), tuple(removed))

    def see(self, addresses: Iterable[Address], now_s: float) -> None:
        """Note that these are connected at this moment."""
        for address in addresses:
            known = self._known.get(address)
            if known is not None and known.is_member:
                known.last_seen_s = now_s

    def forget(self, now_s: float) -> PeersChanged:
        """Give up the members that were not seen for too long, but not before they were probed."""
        removed = []
        for address, known in self._known.items():
            gone_s = now_s - known.last_seen_s
            if (
                known.is_member
                and address != self._own
                and known.outcome is not None
                and 0 < self._forget_after_s < gone_s
            ):
                known.is_member = False
                known.given_up = True
                removed.append(address)
        return PeersChanged(removed=tuple(removed))


def _is_something(outcome: ProbeOutcome | None) -> bool:
    if outcome is None or outcome is ProbeOutcome.DUPLICATE:
        return False
    return not outcome.nothing_there


def _state(known: _Known, is_connected: bool) -> PeerState:
    if not known.is_member:
        return PeerState.UNUSABLE
    return PeerState.PRESENT if is_connected else PeerState.ABSENT
