"""The three topic networks of one node, wired together, from their start to their stop.

All of them send to the same brokers: the node's own, and those that its membership finds meanwhile.
What a chart does with them is told in `nets`.
"""

from __future__ import annotations

import atexit
import enum
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..amqp.topology import mesh_queue
from ..discovery.membership import Membership
from ..discovery.roster import RosterLimits
from ..discovery.search import Login, Search
from ..exceptions import AccessRefused, NetworkStopped, VhostNotFound
from ..process import in_forked_child
from ..urls import Address, AmqpUrl
from ..wire.announcement import announce_broker, announced_broker, is_announcement
from ..wire.codec import is_event_body
from ..wire.envelope import MESH, Envelope, Identity
from .settings import Settings
from .signal_names import check_name
from .snoops import Snoops
from .stats import DropReason, NetsStats
from .teller import Teller
from .terminal import LAST_LINES_S, SnoopTerminal
from .topic import TopicNetwork, TopicSpec

logger = logging.getLogger(__name__)

_GOODBYE_S = 0.5
"""How long brokers may take to close connections when ``stop_timeout_s`` was needed to flush."""


class Phase(enum.Enum):
    """Where the networks of a node stand."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class WiredNets:
    """Owns the networks of one node and their life; the base of `MirosNets`.

    Every method may be called from any thread. Nothing touches the network before `start`.

    Args:
        miros_object: has a text ``name``.
        settings: the node's.
        room: how many events can be taken now; default any number.
    """

    def __init__(
        self, miros_object: Any, settings: Settings, *, room: Callable[[], int] | None
    ) -> None:
        self.settings = settings
        self._object = miros_object
        self._room = room
        # Held for each change of the phase, and while networks are opened; never while an event
        # passes or a connection is waited for.
        self._lifecycle = threading.Condition(threading.RLock())
        self._phase = Phase.STOPPED
        self._peers_changed = threading.Condition()
        self._pid = 0
        self._members: list[AmqpUrl] = []
        self._membership = self._make_membership()
        self._terminal = SnoopTerminal(miros_object.name)
        self._teller = Teller(miros_object.name)
        self._final: NetsStats | None = None
        self._mesh, self.snoops = self._make_networks()

    def __repr__(self) -> str:
        return f"<MirosNets of {self._object.name} {self._phase.value}>"

    # Life.

    @property
    def is_running(self) -> bool:
        """It was started, and nobody has asked it to stop since."""
        return self._phase is Phase.RUNNING

    def start(self) -> None:
        """Open the mesh, and the snoops that are enabled.

        Returns when the own broker delivers and all candidates were asked once, or after
        ``start_timeout``. An own broker that does not answer is warned about and tried again.

        Raises:
            AccessRefused: the own broker refuses user, password or permissions.
            VhostNotFound: it has no such virtual host.
            SettingsError: there is no network interface of the given name.
            NetworkStopped: it was stopped meanwhile.
        """
        deadline_s = time.monotonic() + self.settings.start_timeout
        with self._lifecycle:
            # A stop that is under way ends within its own limit.
            self._lifecycle.wait_for(lambda: self._phase is not Phase.STOPPING)
            if self._phase is Phase.RUNNING:
                return
            if self._pid:
                self._renew()
            own_url = self._membership.scout.this.url
            self._pid = os.getpid()
            self._members = [own_url]
            mesh, snoops = self._mesh, self.snoops
            consumer = mesh.start_consumer(own_url)
            mesh.add_broker(own_url)
            _live.add(self)  # first: a forked child's copy never runs
            self._phase = Phase.RUNNING
            self._open_snoops()
            self._membership.start()
        consumer.wait_until_ready(max(0.0, deadline_s - time.monotonic()))
        fault = consumer.fault
        if isinstance(fault, (AccessRefused, VhostNotFound)):
            self.stop()
            raise fault
        for snoop in snoops:
            snoop.wait_until_ready(max(0.0, deadline_s - time.monotonic()))
        self._membership.wait_for_first_round(max(0.0, deadline_s - time.monotonic()))
        if consumer.is_stopping or not self.is_running or mesh is not self._mesh:
            if mesh is self._mesh:
                self.stop()  # who began with `stop_receiving` has not come to it yet
            raise NetworkStopped(f"{self._object.name} was stopped while it started")
        if not consumer.is_connected:
            logger.warning(
                "%s runs without its broker at %s, which is tried again and again: %s",
                self._object.name,
                consumer.address,
                fault or "it has not answered yet",
            )

    def stop_receiving(self) -> None:
        """Take no more events from the network; `stop` does this too."""
        if self._is_ours():
            self._mesh.stop_consumer()

    def stop(self) -> None:
        """Send what waits, at most ``limits.stop_timeout_s`` long, and end every thread.

        A broker that was lost just now is waited for as long; one that is long gone is not. What
        remains is logged with its count, and counted in `stats` as `DropReason.STOPPED`. Does
        nothing in a forked child: what was started before the fork is the parent's.
        """
        self._stop(time.monotonic() + self.settings.limits.stop_timeout_s)

    def _stop(self, deadline_s: float, lines_s: float = LAST_LINES_S) -> None:
        if not self._is_ours():
            return
        with self._lifecycle:
            if self._phase is Phase.STOPPING:
                # Bounded: what ends may be waiting for the very thread that calls this.
                patience_s = max(0.0, deadline_s - time.monotonic()) + _GOODBYE_S
                self._lifecycle.wait_for(lambda: self._phase is Phase.STOPPED, patience_s)
            is_mine = self._phase is Phase.RUNNING
            if is_mine:
                self._phase = Phase.STOPPING
                _live.discard(self)
        if is_mine:
            try:
                self._end(deadline_s)
            finally:
                with self._lifecycle:
                    self._phase = Phase.STOPPED
                    self._lifecycle.notify_all()
        self._teller.stop(lines_s)
        self._terminal.stop(lines_s)

    def _end(self, deadline_s: float) -> None:
        """End every thread; without the lock, which some of them take."""
        mesh = self._mesh
        mesh.take_nothing_more()
        # Asked now, waited for last: its good-bye goes on while what waits is sent.
        mesh.stop_consumer()
        self._membership.stop()
        for snoop in self.snoops:
            snoop.close()
        mesh.flush(max(0.0, deadline_s - time.monotonic()), if_absent=False)
        mesh.stop(max(_GOODBYE_S, deadline_s - time.monotonic()))
        for snoop in self.snoops:
            snoop.wait_until_closed()
        self._final = self._count(undelivered=self._report_undelivered())

    # What `MirosNets` does with events; both in the mesh consumer's thread.

    def _admit(self, envelope: Envelope) -> None:
        """Raise `MessageRejected` for an event that is not to be taken."""
        raise NotImplementedError

    def _receive(self, envelope: Envelope) -> None:
        """Take an event from the network."""
        raise NotImplementedError

    # Inside.

    def _make_membership(self) -> Membership:
        return Membership(
            search_of(self.settings),
            self._object.name,
            _Follower(self._add_broker, self._remove_broker, self._connected_brokers),
            self.settings.on_peers_changed,
        )

    def _make_networks(self) -> tuple[TopicNetwork, Snoops]:
        """Make the networks of a new sender, none of them open."""
        settings = self.settings
        identity = Identity.new(self._object.name)
        spec = TopicSpec(
            name=MESH,
            tx_key=settings.tx_key,
            rx_key=settings.rx_key,
            keys=settings.mesh_keys,
            queue=mesh_queue(identity, settings.limits),
            lossy=False,
            check_body=_check_event_body,
            check_notice=is_announcement,
        )
        mesh = TopicNetwork(
            spec,
            settings,
            identity,
            on_envelope=self._receive,
            admit=self._admit,
            room=self._room,
            on_change=self._notice_change,
            notice=lambda: announcement_of(self._membership),
            on_notice=(lambda envelope: hear_announcement(self._membership, envelope.body))
            if settings.accept_unknown_peers
            else None,
        )
        return mesh, Snoops(settings, identity, self._terminal, self._teller)

    def _renew(self) -> None:
        """Become a new sender: a second start begins a new epoch."""
        before = self.snoops
        self._mesh, self.snoops = self._make_networks()
        for snoop, former in zip(self.snoops, before, strict=True):
            snoop.continue_as(former)
        self._final = None

    def _count(self, undelivered: int = 0) -> NetsStats:
        fifo = getattr(self._object, "queue", None)
        mesh = self._mesh.stats()
        dropped = {
            **mesh.dropped,
            DropReason.FIFO: getattr(fifo, "dropped", 0),
            DropReason.STOPPED: undelivered,
        }
        return NetsStats(
            mesh=replace(mesh, dropped=dropped),
            snoop_trace=self.snoops.trace.stats(),
            snoop_spy=self.snoops.spy.stats(),
            peers=self._membership.peers(),
        )

    def _open_snoops(self) -> None:
        for snoop in self.snoops:
            snoop.open(self._members[0], self._members)

    def _add_broker(self, url: AmqpUrl) -> None:
        with self._lifecycle:
            if self._phase is not Phase.RUNNING:
                return
            self._members = [*self._members, url]
            self._mesh.add_broker(url)
            for snoop in self.snoops:
                snoop.add_broker(url)

    def _remove_broker(self, url: AmqpUrl) -> int:
        with self._lifecycle:
            if self._phase is not Phase.RUNNING:
                return 0
            self._members = [member for member in self._members if member != url]
        # Without the lock: a publisher in the middle of a connection attempt may take a while.
        for snoop in self.snoops:
            snoop.remove_broker(url.address)
        return self._mesh.remove_broker(url.address)

    def _connected_brokers(self) -> set[Address]:
        publishers = self._mesh.publishers.items()
        return {address for address, publisher in publishers if publisher.is_connected}

    def _notice_change(self) -> None:
        with self._peers_changed:
            self._peers_changed.notify_all()

    def _connected_peers(self) -> int:
        own = {url.address for url in self._members[:1]}
        return len(self._connected_brokers() - own)

    def _check_running(self) -> None:
        if self.is_running:  # as it is in no forked child
            return
        if not self._is_ours():
            raise NetworkStopped(
                f"{self._object.name} was started before this process was forked, and its "
                "connections belong to the parent: make and start a chart in each process"
            )
        name = self._object.name
        if self._pid:
            raise NetworkStopped(f"{name} was stopped: start it again first")
        raise NetworkStopped(f"{name} is not on the network: start it first")

    def _is_ours(self) -> bool:
        """Not inherited from a parent process."""
        return self._pid in (0, os.getpid())

    def _disown(self) -> None:
        """Become fit for a start of one's own, in a forked child."""
        # Whoever held the old ones does not exist here.
        self._lifecycle = threading.Condition(threading.RLock())
        self._peers_changed = threading.Condition()
        self._membership = self._make_membership()
        self._phase = Phase.STOPPED

    def _report_undelivered(self) -> int:
        """Say what no broker has confirmed, and count it."""
        undelivered = 0
        for at, publisher in self._mesh.publishers.items():
            stats = publisher.stats()
            left = stats.waiting + stats.unconfirmed
            undelivered += left
            if left:
                logger.warning("%s: %d events did not reach %s", self._object.name, left, at)
        return undelivered


@dataclass(frozen=True)
class _Follower:
    """What a membership calls; see `discovery.membership.Follower`."""

    added: Callable[[AmqpUrl], None]
    removed: Callable[[AmqpUrl], int]
    connected: Callable[[], set[Address]]


def search_of(settings: Settings) -> Search:
    """Of a node's settings, those that its membership has to know."""
    assert settings.rabbit_port is not None  # the settings have settled it
    limits = settings.limits
    return Search(
        login=Login(settings.rabbit_user, settings.rabbit_password, settings.rabbit_vhost),
        port=settings.rabbit_port,
        tls=settings.tls,
        rabbit_host=settings.rabbit_host,
        addresses=None if settings.addresses is None else tuple(settings.addresses),
        interface=settings.interface,
        rescan_interval_s=settings.rescan_interval,
        cache_valid_s=settings.time_out_in_minutes * 60.0,
        stop_timeout_s=limits.stop_timeout_s,
        limits=RosterLimits(
            forget_after_s=settings.forget_after,
            most_announced=limits.unknown_peers,
            ask_again_s=limits.refused_retry_s,
            announce_s=limits.announce_s,
        ),
    )


def announcement_of(membership: Membership) -> Any:
    """The body of the notice that tells other nodes which broker is this node's own, if any."""
    address = membership.to_announce
    return None if address is None else announce_broker(address)


def hear_announcement(membership: Membership, body: Any) -> None:
    """Have the membership look at the broker that another node announces, if it names one."""
    address = announced_broker(body)
    if address is not None:
        membership.hear(address)


def _check_event_body(body: Any) -> bool:
    if not is_event_body(body):
        return False
    check_name(body[0])
    return True


_live: weakref.WeakSet[WiredNets] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Send what waits, where a program ends without stopping its charts; one deadline for all."""
    began_s = time.monotonic()
    for nets in list(_live):
        try:
            # The terminals write their last lines at the very end, all within one time.
            nets._stop(began_s + nets.settings.limits.stop_timeout_s, lines_s=0.0)
        except Exception:
            # One that cannot end must not keep the others from it.
            logger.exception("%r could not be stopped", nets)


@in_forked_child
def _disown_all() -> None:
    for nets in list(_live):
        nets._disown()
    _live.clear()
