"""The life of a node's networks, from their start to their stop.

All three networks send to the same brokers: the node's own, and those that its membership has
found. How a chart uses the networks is described in `nets`.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from ..amqp.io_choice import io_name
from ..amqp.link import Link
from ..amqp.sinks import Sink, WorkerSink
from ..amqp.topology import mesh_queue
from ..answers import Answers
from ..condition import Condition
from ..discovery.membership import Membership
from ..discovery.places import Evidence
from ..discovery.roster import PeersChanged, PeerSource, RosterLimits
from ..discovery.search import Login, Search
from ..exceptions import (
    AccessRefused,
    BrokerError,
    NetworkStopped,
    OutOfResources,
    VhostNotFound,
)
from ..failures import call
from ..interruption import do_apart, has_interrupted, is_mine, refuse
from ..logs import must_not_wait, write_all
from ..problems import DeliveryProblem, ProblemKind
from ..process import Stage, disown_in_child, end_with_program, stay
from ..resources import naming_shortage
from ..said_before import said_before
from ..urls import Address, AmqpUrl
from ..wire.envelope import MESH, Envelope
from ..wire.notice import (
    Notice,
    Trouble,
    announce_broker,
    announced_broker,
    left_addresses,
    tell_trouble,
)
from ..worker import Worker
from .chart_watch import Busy, ChartTrouble, ChartWatch, Stuck
from .failing import Failures
from .problem_hub import ProblemHub
from .settings import Settings
from .snoops import Snoops
from .spares import Spares
from .stats import DropReason, NetsStats
from .teller import Teller
from .terminal import LAST_LINES_S, SnoopTerminal
from .topic import Hooks, Reactors, TopicNetwork, TopicSpec

logger: logging.Logger = logging.getLogger(__name__)

_GOODBYE_S = 0.5
"""How long brokers may take to close connections if the flush has used up ``stop_timeout_s``."""

_LAST_MOMENT_S = 0.1
"""How long is waited in any case: a connection that answers closes in a part of this time."""

_LOOK_AGAIN_S = 0.01
"""How often a handler of a signal that waits for peers looks for them."""

_MOST_CHANGES = 1_000
"""The most changes of the peers that wait for a slow callback; beyond it, the oldest go."""


class Phase(enum.Enum):
    """Where the networks of a node stand."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Events:
    """What a node does with the events it receives. Called in the thread of the rx reactor.

    Args:
        sink: takes each envelope of another node.
        admit: called before that; raises `MessageRejected` to reject the envelope.
        dropped: returns how many events the chart has dropped, by reason.
        all_busy: what handles the events; it is watched, in case it does not return.
    """

    sink: Sink
    admit: Callable[[Envelope], object]
    dropped: Callable[[], Mapping[DropReason, int]]
    all_busy: Sequence[Busy] = ()


class Node:
    """Owns the networks of one node, its reactors and its membership.

    Every method may be called from any thread. Nothing touches the network before `start`.

    Args:
        name: the name of the chart.
        settings: the settings of the node.
        events: takes the events from the network.
        failures: judges what callbacks raise.
    """

    def __init__(self, name: str, settings: Settings, events: Events, failures: Failures) -> None:
        self.name = name
        self.settings: Settings = settings
        self.phase: Phase = Phase.STOPPED
        # Something may be open that a stop has to close: also if the start, or a stop before, was
        # interrupted by an exception such as KeyboardInterrupt.
        self._is_open = False
        self.events = events
        self._failures = failures
        self.pid: int = 0
        self._members: list[AmqpUrl] = []
        self._final: NetsStats | None = None
        self.terminal: SnoopTerminal = SnoopTerminal(name)
        self._teller = Teller(name)
        self._reactors = Reactors.of(
            name,
            # The methods of allowed classes run while these are made.
            runs_users_code=settings.deserializer is not None or bool(settings.allowed_classes),
        )
        self._peer_callbacks: Worker[PeersChanged] = Worker(
            f"on_peers_changed of {name}", self._tell_peers, max_items=_MOST_CHANGES
        )
        self.problems: ProblemHub = ProblemHub(
            name, settings.on_delivery_problem, failures.of_callback("on_delivery_problem")
        )
        """Tells the user what is reported to it, while the node runs."""
        self._answers = Answers()
        self._make_locks()
        self.membership: Membership = self._make_membership()
        self.watch: ChartWatch = ChartWatch(
            name,
            MESH,
            events.all_busy,
            settings.limits,
            report=self.problems.report,
            on_trouble=self._tell_trouble,
        )
        """Watches whether the chart takes its events."""
        self.mesh: TopicNetwork
        self.snoops: Snoops
        self.mesh, self.snoops = self._make_networks()
        disown_in_child(self, Stage.NETWORKS)

    def _make_locks(self) -> None:
        # Held while the phase changes and while networks are opened; never while an event passes,
        # and never while waiting for a connection.
        self.lifecycle: Condition = Condition()
        self._peers_changed = Condition()

    # Life.

    @property
    def is_running(self) -> bool:
        """Whether it was started and not asked to stop since."""
        return self.phase is Phase.RUNNING

    def start(self) -> None:
        """Open the mesh, and the snoops that are enabled.

        Returns when the own broker delivers and all other candidates have been asked once, or after
        ``start_timeout``. If the own broker does not answer, or refuses a connection, this logs a
        warning, and goes on trying in the background.

        Raises:
            AccessRefused: the own broker refuses the user, the password or a permission.
            VhostNotFound: the own broker has no such virtual host.
            SettingsError: there is no network interface of the given name.
            NetworkStopped: another thread has called `stop` meanwhile.
            OutOfResources: there are no file descriptors for the connection to the own broker, no
                thread can be started, or no memory is left. Nothing runs then.
            MirosApiException: the handler of a signal has called this in the middle of a start or
                stop.
        """
        if is_mine(self.lifecycle.lock)() and has_interrupted():
            refuse("start")
        deadline_s = time.monotonic() + self.settings.start_timeout
        self._stop(deadline_s, only_what_is_left=True)
        # What was opened in part is ended without the lock.
        with contextlib.ExitStack() as undo, self.lifecycle.lock:
            # A stop that is under way has a time limit of its own.
            self.lifecycle.wait_for(lambda: self.phase is not Phase.STOPPING)
            if self.phase is Phase.RUNNING:
                return
            self._is_open = True
            end_with_program(self, Stage.NETWORKS)
            if self.pid:
                self._renew()
            own_url = self.membership.find_own()
            self.pid = os.getpid()
            self._members = [own_url]
            self.problems.open()
            self.watch.begin()
            self._answers.begin(str(own_url.address))
            undo.callback(self._answers.release)
            mesh, snoops = self.mesh, self.snoops
            undo.callback(self._stop, deadline_s + self.settings.limits.stop_timeout_s)
            link = self._open(own_url)
            undo.pop_all()
        try:
            self._await_start(link, mesh, snoops, deadline_s)
        finally:
            self._answers.release()
        self._warn_of_own(link, mesh, snoops)

    def _await_start(
        self, link: Link, mesh: TopicNetwork, snoops: Snoops, deadline_s: float
    ) -> None:
        """Wait for the consumer's link, for the snoops, and for the first round of the search."""
        link.wait_until_ready(max(0.0, deadline_s - time.monotonic()))
        fault = link.fault
        if isinstance(fault, (AccessRefused, VhostNotFound)):
            self.stop()
            raise fault
        short = link.shortage
        if short is not None and not link.is_connected:
            self.stop()
            raise short
        for snoop in snoops:
            snoop.wait_until_ready(max(0.0, deadline_s - time.monotonic()))
        self.membership.wait_for_first_round(max(0.0, deadline_s - time.monotonic()))
        if link.is_stopping or not self.is_running or mesh is not self.mesh:
            if mesh is self.mesh:
                self.stop()  # another thread has called `stop_receiving`, but not `stop` yet
            failure = self._failures.fatal
            why = "" if failure is None else f", as a callback raised {type(failure).__name__}"
            raise NetworkStopped(f"{self.name} was stopped while it started{why}") from failure

    def _warn_of_own(self, link: Link, mesh: TopicNetwork, snoops: Snoops) -> None:
        """Say which links to the own broker are not there, if it says why, each reason once."""
        if not link.is_connected:
            fault = _fault_of(link) or self.membership.fault_of(link.address)
            if fault is not None and fault.has_answered:
                self._answers.claim(fault, link.name)
            logger.warning(
                "%s runs without its broker at %s, and goes on trying to connect: %s",
                self.name,
                link.address,
                "it has not answered yet" if fault is None else said_before.fault(fault),
            )
        for other in (other for network in (mesh, *snoops) for other in network.own_links):
            fault = None if other.is_connected else _fault_of(other)
            if fault is None or not fault.has_answered or other is link:
                continue
            if self._answers.claim(fault, other.name):
                text = "%s runs without the %s, and goes on trying to connect: %s"
                logger.warning(text, self.name, other.name, said_before.fault(fault))

    def _open(self, own_url: AmqpUrl) -> Link:
        """Open the networks, and begin to look for others; returns the consumer's link.

        Called with the lock. If this raises, a stop is to follow, for what was opened.
        """
        try:
            with naming_shortage():
                receiver = self.mesh.start_receiver(own_url)
                self._spares.start()
                self._spares.add(own_url.address, is_own=True)
                self.mesh.add_broker(own_url)
                self.phase = Phase.RUNNING
                self.open_snoops()
                self.membership.start()
                return receiver.link
        except BaseException:
            self.phase = Phase.RUNNING
            raise

    def stop_receiving(self) -> None:
        """Take no more events from the network; `stop` does this too."""
        if self._is_ours():
            self.mesh.stop_receiver()

    def stop(self) -> None:
        """Send what waits, for at most ``limits.stop_timeout_s``, and end every thread.

        A broker that was lost only just now gets this time to come back; one that is long gone does
        not. Events that remain are logged with their number, and counted in `stats` as
        `DropReason.STOPPED`. Does nothing in a forked child: what was started before the fork
        belongs to the parent.

        In the handler of a signal that has come in the middle of other work of this package,
        another thread does all this, and the method returns at once. If the program ends then, its
        end waits for that thread.
        """
        deadline_s = time.monotonic() + self.settings.limits.stop_timeout_s
        if has_interrupted():
            do_apart(lambda: self._stop(deadline_s), f"the stop of {self.name}")
        else:
            self._stop(deadline_s)

    def _stop(
        self,
        deadline_s: float,
        lines_s: float = LAST_LINES_S,
        *,
        only_what_is_left: bool = False,
    ) -> None:
        """Do it.

        Args:
            deadline_s: when what waits is to be sent, by `time.monotonic`.
            lines_s: how long the last lines may take.
            only_what_is_left: whether to stop only what a start or stop has left that was
                interrupted by an exception, such as KeyboardInterrupt.
        """
        if not self._is_ours() or (only_what_is_left and not self._is_open):
            return
        is_ours = False
        try:
            with self.lifecycle.lock:
                if only_what_is_left and self.phase is not Phase.STOPPED:
                    return
                if self.phase is Phase.STOPPING:
                    # Bounded, because a chart that is stopping may wait for the thread that calls
                    # this.
                    patience_s = max(0.0, deadline_s - time.monotonic()) + _GOODBYE_S
                    self.lifecycle.wait_for(lambda: self.phase is Phase.STOPPED, patience_s)
                is_ours = self._is_open and self.phase is not Phase.STOPPING
                if is_ours:
                    self.phase = Phase.STOPPING
            if is_ours:
                self._end_networks(deadline_s)
                # Last, so that the end of the program waits for another thread that does this.
                stay(self, Stage.NETWORKS)
                self._is_open = False
        finally:
            if is_ours:
                self.phase = Phase.STOPPED
                with self.lifecycle.lock:
                    self.lifecycle.notify_all()
        write_all(min(_GOODBYE_S, lines_s))
        self._teller.stop(lines_s)
        self.terminal.stop(lines_s)

    def _end_networks(self, deadline_s: float) -> None:
        """End every thread. Called without the lock, which some of them need."""
        mesh = self.mesh
        mesh.take_nothing_more()
        # Ask it now and wait for it last, so that it says good-bye while waiting events are sent.
        mesh.stop_receiver()
        self.membership.stop()
        for snoop in self.snoops:
            snoop.close()
        mesh.flush(max(0.0, deadline_s - time.monotonic()), if_absent=False)
        self._spares.stop()
        # One time for all that follows, and for all nodes of a program that ends.
        goodbye_s = deadline_s + _GOODBYE_S
        mesh.stop(_rest_s(goodbye_s))
        for snoop in self.snoops:
            snoop.wait_until_closed()
        for reactor in self._reactors:
            if not (reactor.is_current_thread or reactor.wait_for_end(_rest_s(goodbye_s))):
                logger.warning(
                    "the thread %s has not ended in time and is left behind: it is %s",
                    reactor.name,
                    reactor.busy() or "waiting for a connection to close",
                )
        for sink in (self.events.sink, *self.snoops.sinks):
            if isinstance(sink, WorkerSink):
                sink.stop(_rest_s(goodbye_s))
        self._peer_callbacks.stop(_rest_s(goodbye_s))
        self._final = self._count(undelivered=self._report_undelivered())
        self.problems.close(_rest_s(goodbye_s))

    def ask_to_end(self) -> None:
        """Take nothing more from the network, and send what waits, because the program ends."""
        if self.is_running:
            self.mesh.stop_receiver()
            self.mesh.send_everything()
            with self.lifecycle.lock:
                # The last lines of all nodes go out at the same time.
                for snoop in self.snoops:
                    snoop.close()

    def end(self, began_s: float) -> None:
        """Stop before the program ends; the time limit counts from ``began_s``."""
        deadline_s = began_s + self.settings.limits.stop_timeout_s
        if began_s == -math.inf:
            deadline_s = time.monotonic()  # at once; the connections still say good-bye
        # The terminals write their last lines later, all at the same time.
        self._stop(deadline_s, lines_s=0.0)

    # What a chart does.

    def change_keys(self, settings: Settings) -> None:
        """Encrypt and decrypt with the keys of other settings. Called with the lock."""
        self.settings = settings
        self.mesh.change_keys(settings.mesh_keys)
        self.snoops.trace.change_keys(settings.trace_keys)
        self.snoops.spy.change_keys(settings.spy_keys)
        try:
            self.membership.use(search_of(settings), at_once=self.is_running)
        except OutOfResources as error:
            text = "%s still hears of brokers together with charts that have other keys: %s"
            logger.warning(text, self.name, error)

    def open_snoops(self) -> None:
        """Open the snoops that are enabled. Called with the lock, while the node runs."""
        for snoop in self.snoops:
            snoop.open(self._members[0], self._members)

    def stats(self) -> NetsStats:
        """The counters of the three networks, since `start`."""
        return self._final or self._count()

    def look_soon(self) -> None:
        """Look soon whether the chart takes its events; for a post that waits. Returns at once."""
        receiver = self.mesh.receiver
        if receiver is not None:
            receiver.look_soon()

    def wait_for_peers(self, n: int, timeout: float) -> bool:
        """Wait for ``n`` connected brokers besides the own one, at most ``timeout`` s."""
        if has_interrupted():
            # Not on the condition, as it would let go of the lock for what was interrupted.
            deadline_s = time.monotonic() + timeout
            while self._connected_peers() < n and time.monotonic() < deadline_s:
                if must_not_wait():
                    return False
                time.sleep(_LOOK_AGAIN_S)
            return self._connected_peers() >= n
        with self._peers_changed.lock:
            return self._peers_changed.wait_for(lambda: self._connected_peers() >= n, timeout)

    def check_running(self) -> None:
        """Check that events can be transmitted.

        Raises:
            NetworkStopped: they cannot; the message says why.
        """
        if self.phase is Phase.RUNNING:  # never in a forked child
            return
        if not self._is_ours():
            raise NetworkStopped(
                f"{self.name} was started before this process was forked, and its "
                "connections belong to the parent: make and start a chart in each process"
            )
        if self.pid:
            failure = self._failures.fatal
            why = "" if failure is None else f", as the program raised {type(failure).__name__}"
            raise NetworkStopped(f"{self.name} was stopped{why}: start it again first")
        raise NetworkStopped(f"{self.name} is not on the network: start it first")

    # Inside.

    def _make_membership(self) -> Membership:
        return Membership(
            search_of(self.settings),
            self.name,
            _Follower(
                self._add_broker,
                self._remove_brokers,
                self._connected_brokers,
                self._reached_brokers,
                self._evidence,
                self._move_broker,
                self._move_own,
            ),
            self._peer_callbacks.put if self.settings.on_peers_changed is not None else None,
            self._answers,
        )

    def _make_networks(
        self, former_epochs: frozenset[bytes] = frozenset()
    ) -> tuple[TopicNetwork, Snoops]:
        """Make the networks of a new sender; none of them is open yet."""
        settings = self.settings
        spec = TopicSpec(
            name=MESH,
            tx_key=settings.tx_key,
            rx_key=settings.rx_key,
            keys=settings.mesh_keys,
            queue=mesh_queue(settings.limits),
            lossy=False,
            has_notices=True,
        )

        def notice_change() -> None:
            self._notice_change()
            spares.look_soon()

        hooks = Hooks(
            sink=self.events.sink,
            admit=self.events.admit,
            on_change=notice_change,
            notice=self._announcement,
            on_lag=self._hold_snoops,
            on_notice=self._hear,
            report=self.problems.report,
            watch=self.watch,
            vet=lambda sender, proceed: spares.vet(sender, proceed),
            answers=self._answers,
        )
        mesh = TopicNetwork(spec, settings, self.name, self._reactors, hooks, former_epochs)
        snoops = Snoops(
            settings,
            self.name,
            self._reactors,
            self.terminal,
            self._teller,
            self._failures,
            self.problems.report,
            self._answers,
        )

        def share(spare_of: Mapping[Address, Address]) -> bool:
            networks = (mesh, *snoops)
            return all(network.share(spare_of) for network in networks)

        spares = Spares(
            self.name,
            self._reactors.tx,
            lambda: mesh.senders,
            share,
            self.problems.report,
        )
        self._spares = spares
        return mesh, snoops

    def _tell_trouble(self, trouble: ChartTrouble) -> None:
        """Tell other nodes that this chart takes no events, and when all is well again."""
        if not trouble.is_over:
            is_stuck = trouble.kind is ProblemKind.STUCK_CHART
            seconds = max(1, round(trouble.seconds)) if is_stuck else 0
            told = Trouble(self.name, trouble.state, seconds, max(1, trouble.waiting))
        elif self.watch.is_well:
            told = Trouble(self.name, "", 0, 0)
        else:
            return
        self.mesh.tell_all(tell_trouble(told))

    def _announcement(self) -> Notice | None:
        """The notice that tells other nodes which broker is this node's own; `None` for none."""
        address = self.membership.to_announce
        return None if address is None else announce_broker(address, self.membership.left)

    def _hear(self, notice: Notice, announcer: bytes) -> None:
        """Take in the broker that another node announces, if there is one."""
        address = announced_broker(notice)
        if address is None:
            return
        self.mesh.vouch(address)
        if self.settings.accept_unknown_peers:
            self.membership.hear(address, left_addresses(notice), announcer)

    def _renew(self) -> None:
        """Become a new sender: a second start begins a new epoch."""
        before = self.snoops
        # What this process has sent itself stays its own; what its parent sends does not.
        is_same_process = self.pid == os.getpid()
        former_epochs = self.mesh.epochs if is_same_process else frozenset[bytes]()
        self.mesh, self.snoops = self._make_networks(former_epochs)
        for snoop, former in zip(self.snoops, before, strict=True):
            snoop.continue_as(former)
        self._final = None

    def _count(self, undelivered: int = 0) -> NetsStats:
        mesh = self.mesh.stats()
        dropped = {
            **mesh.dropped,
            **self.events.dropped(),
            DropReason.STOPPED: undelivered,
        }
        return NetsStats(
            mesh=replace(mesh, dropped=dropped),
            snoop_trace=self.snoops.trace.stats(),
            snoop_spy=self.snoops.spy.stats(),
            peers=tuple(
                replace(peer, spare_of=self._spares.spare_of.get(peer.address))
                for peer in self.membership.peers()
            ),
            stuck=self._stuck(),
            io=io_name(),
        )

    def _stuck(self) -> tuple[Stuck, ...]:
        watches = (self.watch, *(snoop.watch for snoop in self.snoops))
        return tuple(stuck for watch in watches if watch is not None for stuck in watch.stuck)

    def _add_broker(self, url: AmqpUrl) -> None:
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return
            self._members = [*self._members, url]
            source = self._source_of(url)
            by_user = source is not None and source.by_user
            self._spares.add(url.address, by_user=by_user)
            origin = "" if source is None else source.value
            self.mesh.add_broker(url, is_stranger=not by_user, origin=origin)
            if self.membership.is_announced(url.address):
                self.mesh.vouch(url.address)
            for snoop in self.snoops:
                snoop.add_broker(url)

    def _remove_brokers(self, urls: Sequence[AmqpUrl]) -> list[int]:
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return [0] * len(urls)
            self._members = [member for member in self._members if member not in urls]
        # Without the lock, because a sender in the middle of a connection attempt may take a while.
        for url in urls:
            self._spares.remove(url.address)
        endings = [network.remove_broker(url.address) for network in self.snoops for url in urls]
        endings += [self.mesh.remove_broker(url.address) for url in urls]
        dropped = [wait_for_end() for wait_for_end in endings]
        return dropped[-len(urls) :]

    def _move_broker(self, before: AmqpUrl, url: AmqpUrl) -> None:
        """Publish to a broker at another address, as it says that it has left the former one."""
        source = self._source_of(url)
        by_user = source is not None and source.by_user
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return
        # Without the lock, because another thread has to do it.
        self._spares.move(before.address, url.address, by_user=by_user)
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return
            self._members = [*(one for one in self._members if one not in (before, url)), url]
            networks = (self.mesh, *self.snoops)
            endings = [network.move(before.address, url) for network in networks]
        for wait_for_end in endings:
            wait_for_end()
        self._notice_change()

    def _source_of(self, url: AmqpUrl) -> PeerSource | None:
        """How a broker became known; `None` if it is not any more."""
        peers = self.membership.peers()
        return next((peer.source for peer in peers if peer.address == url.address), None)

    def _move_own(self, url: AmqpUrl, *, is_gone: bool) -> None:
        """Reach the own broker at another address, as this machine's has changed."""
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return
            before = self._members[0]
        # Without the lock, because another thread has to do it.
        self._spares.move(before.address, url.address, is_own=True)
        with self.lifecycle.lock:
            if self.phase is not Phase.RUNNING:
                return
            self._members = [url, *(one for one in self._members if one not in (before, url))]
            networks = (self.mesh, *self.snoops)
            endings = [network.move_own(url, is_gone=is_gone) for network in networks]
        for wait_for_end in endings:
            wait_for_end()
        self._spares.look_soon()
        self._notice_change()

    def _hold_snoops(self, address: Address, lags: bool) -> None:
        """Leave the way to a broker to events while these have to wait."""
        for snoop in self.snoops:
            snoop.hold(address, held=lags)

    def _connected_brokers(self) -> set[Address]:
        """Those that can be reached and confirm what they get."""
        senders = self.mesh.senders.items()
        return {at for at, sender in senders if sender.is_connected and not sender.is_stalled}

    def _reached_brokers(self) -> set[Address]:
        """Those that can be reached, whether they confirm or not."""
        return {at for at, sender in self.mesh.senders.items() if sender.is_connected}

    def _evidence(self) -> dict[Address, Evidence]:
        spare_of = self._spares.spare_of
        return {
            at: Evidence(
                sender.confirms,
                sender.owes if sender.is_connected else None,
                spare_of.get(at),
            )
            for at, sender in self.mesh.senders.items()
        }

    def _notice_change(self) -> None:
        with self._peers_changed.lock:
            self._peers_changed.notify_all()

    def _tell_peers(self, changes: deque[PeersChanged], dropped: int) -> None:
        if dropped:
            logger.warning(
                "%s: %d changes of the peers are not told, as on_peers_changed is too slow",
                self.name,
                dropped,
            )
        callback = self.settings.on_peers_changed
        assert callback is not None
        on_raise = self._failures.of_callback("on_peers_changed")
        while changes:
            call(callback, changes.popleft(), on_raise)

    def _connected_peers(self) -> int:
        own = {url.address for url in self._members[:1]}
        return len(self._connected_brokers() - own)

    def _is_ours(self) -> bool:
        """Tell whether this process, and not its parent, has started the networks, if they were."""
        return self.pid in (0, os.getpid())

    def _report_undelivered(self) -> int:
        """Log and count the events that their brokers have not confirmed."""
        undelivered = 0
        for at, sender in self.mesh.senders.items():
            stats = sender.stats()
            left = stats.waiting + stats.unconfirmed
            undelivered += left
            if left:
                fault = sender.link.last_fault
                logger.warning(
                    "%s: %d event%s not confirmed by %s when it stopped, and may be lost%s",
                    self.name,
                    left,
                    "s were" if left > 1 else " was",
                    at,
                    ": call nets.flush() before stop() to wait for longer"
                    if fault is None
                    else f", as it is not connected: {said_before.fault(fault)}",
                )
                self.problems.report(
                    DeliveryProblem(
                        ProblemKind.DROPPED,
                        str(at),
                        f"{sender.link.name}: events may be lost: {DropReason.STOPPED.value}",
                        network=MESH,
                        events=left,
                    )
                )
        return undelivered

    def disown(self) -> None:
        """Become ready for a start in a forked child."""
        self._make_locks()  # threads that held the old ones do not exist here
        self._is_open = False
        self.phase = Phase.STOPPED
        if self.pid:
            # Also if it was stopped: others in the parent may go on with the same search.
            self.membership = self._make_membership()


def _fault_of(link: Link) -> BrokerError | None:
    """Why a link is not connected, even while the next attempt is under way."""
    return link.fault or link.last_fault


def _rest_s(until_s: float) -> float:
    """How long to wait until then; at least for what only has to be noticed."""
    return max(_LAST_MOMENT_S, until_s - time.monotonic())


@dataclass(frozen=True)
class _Follower:
    """What a membership calls; see `membership.Follower`."""

    added: Callable[[AmqpUrl], None]
    removed: Callable[[Sequence[AmqpUrl]], list[int]]
    connected: Callable[[], set[Address]]
    reached: Callable[[], set[Address]]
    evidence: Callable[[], dict[Address, Evidence]]
    moved: Callable[[AmqpUrl, AmqpUrl], None]
    own_moved: Callable[..., None]


def search_of(settings: Settings) -> Search:
    """Pick the settings of a node that its membership needs."""
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
            most_found=limits.lan_peers,
            most_announced=limits.unknown_peers,
            ask_again_s=limits.refused_retry_s,
            announce_s=limits.announce_s,
        ),
        trust=_trust(settings),
    )


def _trust(settings: Settings) -> bytes:
    """Tell nodes apart that take in the announcements of different others."""
    if not settings.accept_unknown_peers:
        return b""
    # Of equal length, so that what is hashed has one meaning. Random keys cannot be guessed by it.
    return sha256(b"".join(sorted(settings.mesh_keys))).digest()
