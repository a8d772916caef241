"""Notices that several addresses lead to the same broker or cluster, and has one of them used.

Otherwise each event would cross once for each address: when a broker is named by its name and by
its IP, or all nodes of a cluster are named. A new connection of the mesh is looked at before
anything is sent on it (``vet`` of `Sender`), and compared with each of the others (`marker`). The
address that was there first is used, unless the new one comes before it by rank and was never
connected before. The rank: the node's own broker, then those that the user has named, then the
others, each in the order in which they were added. Of two that connect at about the same time, one
that may have to yield to the other sends nothing before they are compared: else both would send
what has waited.

A spare keeps its connection. When the used one is absent, the first spare that is connected takes
over, and the former one is a spare when it is back. What follows for senders is done by
`redirection`, in each of the node's networks.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..amqp.link_state import SessionState
from ..amqp.marker import Marker, Verdict, compare
from ..amqp.reactor import IoThread, Lane, Timer
from ..amqp.sender import Sender
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..urls import Address
from .broker_groups import BrokerGroups

logger: RelayedLogger = RelayedLogger(__name__)

_VET_S = 3.0
"""How long a new connection waits for the comparisons, of which each takes three round trips. An
answer that comes later is acted on, too."""

_COMPARE_AGAIN_S = 1.0
"""When two connections that seem to lead to different brokers are compared once more. The nodes of
a cluster that are far from each other, or busy, may need that long to know a new marker."""

_WARN_S = 1.0
"""How long after two addresses of a broker were found the user is told of it, and of others."""

_LOOK_S = 0.5
"""How often it is looked whether a broker that has spares is absent."""

_AGAIN_S = 0.02
"""How soon to try again to share out, when a thread is posting."""

_REMOVE_S = 2.0
"""How long the removal of a broker waits for the reactor's thread."""

_LAST = (3, 0)
"""The rank of an address that nobody has added."""


@dataclass(eq=False)
class _Connection:
    """A connection of the mesh to a broker."""

    address: Address
    marker: Marker
    cluster: str
    """The name that the broker tells."""
    is_late: bool = False
    """Its broker had not even made a marker when somebody waited for it."""

    @property
    def is_silent(self) -> bool:
        """It cannot be compared with others now, and none of them waits for it."""
        return self.is_late and not self.marker.has_answered


@dataclass(eq=False)
class _Vetting:
    """A new connection that is compared with others."""

    one: _Connection
    proceed: Callable[[], object]
    is_first: bool
    """It is the first one to this address."""
    pending: set[_Connection] = field(default_factory=set)
    same: set[_Connection] = field(default_factory=set)
    """Those that lead to the same, and were not compared with all others either."""
    timer: Timer | None = None
    is_over: bool = False
    compared_again: set[_Connection] = field(default_factory=set)


class Spares:
    """Decides which of a node's addresses are spares, by the connections of its mesh.

    Everything may be used from any thread, except `vet`.

    Args:
        name: the name of the chart.
        reactor: that of the senders.
        senders: returns the senders of the mesh by address.
        share: makes the networks follow; returns False if it has to be called again soon. Called in
            the reactor's thread.
        report: is told of several addresses of one broker.
    """

    def __init__(
        self,
        name: str,
        reactor: IoThread,
        senders: Callable[[], Mapping[Address, Sender]],
        share: Callable[[Mapping[Address, Address]], bool],
        report: Report,
    ) -> None:
        self.spare_of: Mapping[Address, Address] = {}
        """The spares, and the address that is used in place of each. Replaced as a whole."""
        self._name = name
        self._reactor = reactor
        self._senders = senders
        self._share = share
        self._report = report
        self._lane: Lane | None = None
        self._ranks: dict[Address, tuple[int, int]] = {}
        self._numbers = itertools.count()
        # From here on: the reactor's thread only.
        self._groups = BrokerGroups(self._rank)
        # The present connection of each address, or the last one.
        self._connections: dict[Address, _Connection] = {}
        self._under_way: dict[_Connection, _Vetting] = {}
        self._warned: set[Address] = set()
        self._warn_timer: Timer | None = None
        self._look_timer: Timer | None = None

    def _rank(self, address: Address) -> tuple[int, int]:
        return self._ranks.get(address, _LAST)

    # Any thread.

    def start(self) -> None:
        """Be ready; starts the reactor's thread if it does not run yet."""
        if self._lane is None:
            name = f"the spare brokers of {self._name}"
            self._reactor.attach(name, self._on_error, self._keep)

    def _keep(self, lane: Lane | None) -> None:
        self._lane = lane

    def stop(self) -> None:
        """Decide nothing more; returns at once."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.call_soon(lambda: self._close(lane))

    def add(self, address: Address, *, is_own: bool = False, by_user: bool = False) -> None:
        """Note a broker, before it is connected.

        Args:
            address: the broker's.
            is_own: it is the node's own.
            by_user: the user has named it.
        """
        self._ranks[address] = (0 if is_own else 1 if by_user else 2, next(self._numbers))

    def move(
        self, before: Address, now: Address, *, is_own: bool = False, by_user: bool = False
    ) -> None:
        """Note that a broker is at another address, before the networks follow.

        Returns as `remove` does.
        """
        self.add(now, is_own=is_own, by_user=by_user)
        self.remove(before)
        self._ranks.pop(before, None)

    def remove(self, address: Address) -> None:
        """Have a spare take over from a broker that is to be removed, if it has one.

        Returns when that is done, within seconds. To be called before its sender is removed.
        """
        lane = self._lane
        if lane is None or self._reactor.is_current_thread:
            return
        is_done = threading.Event()
        lane.call_soon(lambda: self._remove(address, is_done.set))
        is_done.wait(_REMOVE_S)

    def look_soon(self) -> None:
        """Have a spare take over now if a broker confirms nothing; returns at once."""
        lane, spare_of = self._lane, self.spare_of
        if lane is None or not spare_of:
            return
        senders = self._senders()
        if any(used in senders and senders[used].is_stalled for used in spare_of.values()):
            lane.call_soon(self._look)

    # The reactor's thread.

    def _close(self, lane: Lane) -> None:
        if self._warn_timer is not None:
            self._warn()
        lane.close()

    def vet(self, sender: Sender, proceed: Callable[[], object]) -> None:
        """Look at a new connection, then call ``proceed`` in the lane of its link."""
        lane, link = self._lane, sender.link
        if lane is None:
            proceed()
            return
        one = _Connection(link.address, Marker(link), link.cluster_name)
        lane.call_soon(lambda: self._begin(one, lambda: link.call_soon(proceed)))

    def _begin(self, one: _Connection, proceed: Callable[[], object]) -> None:
        lane = self._lane
        if lane is None:
            proceed()
            return
        self._forget_removed()
        address = one.address
        former = self._connections.get(address)
        others = [
            other
            for other in self._connections.values()
            if other.address != address and other.marker.is_valid
        ]
        self._connections[address] = one
        vetting = _Vetting(one, proceed, former is None)
        mates = self._groups.mates(address)
        is_renamed = former is not None and one.cluster != former.cluster
        if mates and is_renamed and mates.isdisjoint(other.address for other in others):
            # It cannot be compared with any of them. Otherwise, it stays one of them meanwhile.
            self._leave(address)
        if not others:
            self._end(vetting)
            return
        others = [other for other in others if not other.is_silent]
        vetting.pending = set(others)
        vetting.timer = lane.call_later(_VET_S, lambda: self._give_up_waiting(vetting))
        self._under_way[one] = vetting
        for other in others:
            if other in self._under_way and self._may_replace(vetting, other):
                self._under_way[other].pending.add(one)
            self._compare(vetting, other)
        if not vetting.pending:
            self._end(vetting)

    def _may_replace(self, vetting: _Vetting, other: _Connection) -> bool:
        """Whether a new connection is used in place of another, if they lead to the same."""
        return vetting.is_first and self._rank(vetting.one.address) < self._rank(other.address)

    def _give_up_waiting(self, vetting: _Vetting) -> None:
        self._under_way.pop(vetting.one, None)
        for one in (vetting.one, *vetting.pending):
            if one not in self._under_way:  # it began later, and still has time
                one.is_late = not one.marker.has_answered
        self._end(vetting)

    def _compare(self, vetting: _Vetting, other: _Connection) -> None:
        on_verdict = functools.partial(self._on_verdict, vetting, other)
        compare(vetting.one.marker, other.marker, on_verdict)

    def _on_verdict(self, vetting: _Vetting, other: _Connection, verdict: Verdict) -> None:
        # Without the lock of the link that has the answer: what follows concerns others, too.
        if self._lane is not None:
            self._lane.call_soon(lambda: self._judge(vetting, other, verdict))

    def _judge(self, vetting: _Vetting, other: _Connection, verdict: Verdict) -> None:
        one = vetting.one
        is_joined = False
        if self._is_present(one) and self._is_present(other):
            if verdict is Verdict.SAME:
                is_joined = self._groups.join(one.address, other.address)
                self._warn_soon()
            elif verdict is Verdict.OTHER and other.address in self._groups.mates(one.address):
                self._leave(one.address)
            if verdict is Verdict.OTHER and other not in vetting.compared_again:
                vetting.compared_again.add(other)
                if self._lane is not None:
                    self._lane.call_later(_COMPARE_AGAIN_S, lambda: self._compare(vetting, other))
        vetting.pending.discard(other)
        waiting = self._under_way.get(other)
        if waiting is not None:
            waiting.pending.discard(one)
        is_same = verdict is Verdict.SAME
        if is_same and waiting is not None and not vetting.is_over:
            # Both may lead to where a third one does, which is in use.
            vetting.same.add(other)
            waiting.same.add(one)
            is_same = False
        if vetting.is_over:
            self._apply(lambda: self._prefer(vetting, _nothing) if is_joined else _nothing())
        elif is_same or not vetting.pending:
            self._end(vetting)
        if waiting is not None and (is_same or not waiting.pending):
            self._end(waiting)

    def _is_present(self, connection: _Connection) -> bool:
        return self._connections.get(connection.address) is connection

    def _end(self, vetting: _Vetting) -> None:
        """Let a connection be used, and with it those that were found to lead to the same; first
        have the networks follow what was found."""
        together = [] if vetting.is_over else [vetting]
        for each in together:  # it grows meanwhile
            each.is_over = True
            self._under_way.pop(each.one, None)
            if each.timer is not None:
                each.timer.lane.cancel(each.timer)
            together += [self._under_way.pop(one) for one in each.same & self._under_way.keys()]
        # The one that is used from now on comes first, so that the others send nothing.
        for each in sorted(together, key=lambda each: self._rank(each.one.address)):
            self._apply(functools.partial(self._prefer, each, each.proceed))

    def _prefer(self, vetting: _Vetting, then: Callable[[], object]) -> None:
        """Use a new address instead of one that was connected before it, if its rank says so."""
        address = vetting.one.address
        if vetting.is_first and self._groups.outranks_used(address):
            self._groups.use(address)
        self._apply(then)

    def _warn_soon(self) -> None:
        """Say once that addresses lead to the same broker, when all have had time to connect."""
        if self._warn_timer is None and self._lane is not None:
            self._warn_timer = self._lane.call_later(_WARN_S, self._warn)

    def _warn(self) -> None:
        self._warn_timer = None
        for used in dict.fromkeys(self.spare_of.values()):
            spares = sorted(self._groups.mates(used), key=self._rank)
            if self._warned.issuperset(spares):
                continue
            self._warned.update(spares, [used])
            cluster = self._connections[used].cluster
            others = ", ".join(map(str, spares))
            text = (
                f"{self._name}: {used} and {others} lead to the same broker or cluster "
                f"({cluster or 'unnamed'}): events go to {used} only. The others are "
                "spares, of which one takes over if it is absent"
            )
            logger.warning("%s", text)
            self._report(DeliveryProblem(ProblemKind.SAME_BROKER, str(used), text))

    def _leave(self, address: Address) -> None:
        mates = self._groups.mates(address)
        logger.info(
            "%s: %s does not lead to the same broker as %s any more",
            self._name,
            address,
            ", ".join(sorted(map(str, mates))),
        )
        self._groups.leave(address, self._usable(mates))

    def _usable(self, addresses: Iterable[Address]) -> list[Address]:
        """Those whose brokers take messages now."""
        senders = self._senders()
        return [
            address
            for address in addresses
            if (sender := senders.get(address)) is not None
            and sender.link.state is SessionState.READY
            and not sender.is_absent
        ]

    def _look(self) -> None:
        """Have spares take over from brokers that are absent."""
        if self._look_timer is not None:
            self._look_timer.lane.cancel(self._look_timer)
            self._look_timer = None
        self._forget_removed()
        senders = self._senders()
        for used in set(self.spare_of.values()):
            sender = senders.get(used)
            # Before events are dropped, which begins when it is absent.
            if sender is not None and not sender.is_absent_within(_LOOK_S + _AGAIN_S):
                continue
            usable = self._usable(self._groups.mates(used))
            if usable:
                heir = self._groups.best(usable)
                logger.warning("%s: %s is absent: its spare %s takes over", self._name, used, heir)
                self._groups.use(heir)
        self._apply(_nothing)

    def _remove(self, address: Address, done: Callable[[], object]) -> None:
        # It stays in its group until its sender is gone, so that it is posted nothing more.
        mates = self._groups.mates(address)
        if mates and self._groups.used(address) == address:
            self._groups.use(self._groups.best(mates, self._usable(mates)))
        self._apply(done)

    def _forget_removed(self) -> None:
        for address in self._connections.keys() - self._senders().keys():
            del self._connections[address]
            self._warned.discard(address)
            self._groups.leave(address, self._usable(self._groups.mates(address)))

    def _apply(self, then: Callable[[], object]) -> None:
        """Have the networks follow, then go on."""
        lane = self._lane
        if lane is None:
            then()
            return
        spare_of = self._groups.spare_of
        if spare_of != self.spare_of:
            if not self._share(spare_of):
                lane.call_later(_AGAIN_S, lambda: self._apply(then))
                return
            self.spare_of = spare_of
        if spare_of and self._look_timer is None:
            self._look_timer = lane.call_later(_LOOK_S, self._look)
        then()

    def _on_error(self, error: BaseException) -> None:
        logger.error("%s: unexpected error among its spare brokers", self._name, exc_info=error)


def _nothing() -> None:
    """What follows a look."""
