"""Finds the brokers that a node publishes to, at the start and again and again.

A thread collects candidates (named by the user, in the hosts file, on the LAN, announced by other
nodes), has the scout probe them, and tells the node about every member that joins or leaves. The
`Roster` decides who is a member. What the node does with its members is the node's own business,
and so is where announcements come from: they arrive here as addresses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

from ..answers import Answers
from ..condition import Condition
from ..exceptions import BrokerError, OutOfResources, SettingsError
from ..host_names import ip_of, is_loopback
from ..resolve import look_ups_under_way
from ..resources import news, shortage, start_thread
from ..urls import Address, AmqpUrl, parse_address
from .allotment import allotment
from .hosts_file import HOSTS_FILE_NAME, HostsFile, tell_of_older_name
from .lan import LocalAreaNetwork
from .lan_cache import CACHE_FILE_NAME, LanCache
from .outcome import ProbeResult
from .own_address import OwnAddress
from .own_name import OwnName
from .peer_reports import PeerReports, Standing
from .places import Evidence, Kind
from .roster import Peer, PeersChanged, PeerSource, Roster
from .scout import RabbitScout
from .search import Search
from .vetting import Vetting

logger: logging.Logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0
"""Seconds between two looks at the hosts file and at the connections: both are cheap, and a user
who edits the file expects to see something happen."""

_LOOK_SHARE = 0.005
"""The look at the machine's addresses takes at most this share of a processor: a fraction of a
millisecond for few interfaces, and some 50 ms for fifty, as a machine with many containers has."""

_LOOK_MAX_S = 10.0
"""But there is a look after so many seconds."""


_LEFT_S = 120.0
"""How long others are told which address the own broker has left: they hear it within a second or
two if they are there. Later, another machine may have got it."""

_MOST_LINES = 8
"""A change of so many brokers gets a line in the log for each of them; a larger one gets one."""

_STARVED_S, _STARVED_MOST_S = 2.0, 60.0
"""The first and the longest pause before another round, where descriptors, threads or memory were
short in the last."""


class Follower(Protocol):
    """A node that publishes to the members, and follows when one joins or leaves."""

    def added(self, url: AmqpUrl, /) -> object:
        """Begin to publish to a broker. Called in the membership's thread."""

    def removed(self, urls: Sequence[AmqpUrl], /) -> Sequence[int]:
        """Stop publishing to brokers, to all at the same time. Called in the membership's thread.

        Returns:
            the number of events that were given up with each of them.
        """
        ...

    def moved(self, before: AmqpUrl, url: AmqpUrl, /) -> object:
        """Publish to a broker at another address, to which what waits at the former one goes.

        The follower may publish to it already. Called in the membership's thread.
        """

    def own_moved(self, url: AmqpUrl, /, *, is_gone: bool) -> object:
        """Reach the own broker at another address. Called in the membership's thread.

        ``is_gone`` tells that this machine does not have the former address any more.
        """

    def connected(self) -> Collection[Address]:
        """The members to which there is a working connection. Called in any thread."""
        ...

    def reached(self) -> Collection[Address]:
        """The same and those of which the broker confirms nothing. Called in any thread.

        A probe of such a broker would tell that it works.
        """
        ...

    def evidence(self) -> Mapping[Address, Evidence]:
        """What the connections to the members show. Called in the membership's thread."""
        ...


class Membership:
    """Looks for brokers in a thread of its own, from `start` to `stop`.

    All methods may be called from any thread. `start` and `stop` do not run at the same time: the
    node takes care of that.

    Attributes:
        lan: the LAN that is searched.
        scout: what probes the candidates; ``scout.this`` is the node's own broker.

    Args:
        search: whom to look for, where, and how often.
        name: the chart's name, for the log and for the name of the thread.
        follower: the node.
        on_change: called in the membership's thread with each change, after the node has followed
            it. Exceptions that it raises are logged. The search waits until it returns.
        answers: knows what brokers have answered to the node, so that nothing is said twice.
    """

    def __init__(
        self,
        search: Search,
        name: str,
        follower: Follower,
        on_change: Callable[[PeersChanged], object] | None = None,
        answers: Answers | None = None,
    ) -> None:
        self._search = search
        self._name = f"miros discovery of {name}"
        self._follower = follower
        self._on_change = on_change
        self.lan: LocalAreaNetwork = LocalAreaNetwork(
            search.addresses, interface=search.interface, rabbit_host=search.rabbit_host
        )
        self.scout: RabbitScout = RabbitScout(
            search.login.user,
            search.login.password,
            addresses=search.addresses,
            rabbit_host=search.rabbit_host,
            rabbit_port=search.port,
            rabbit_vhost=search.login.vhost,
            lan=self.lan,
            tls=search.tls,
        )
        self._own: OwnAddress | None = None  # None if ``rabbit_host`` says where it is
        self._own_url: AmqpUrl | None = None
        self._own_name: OwnName | None = None  # None if the own broker is announced as it is given
        self._vetting = Vetting(self._name, search)
        self._reports = PeerReports(self._name, answers or Answers())
        self._first_round = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # Guards the roster and the brokers to probe. Notified when there is one to probe, or when
        # the thread has to end.
        self._changed = Condition()
        self._roster: Roster | None = None
        self._is_to_ask = False
        # From here on: for the membership's thread only.
        self._found: tuple[Address, ...] = ()
        self._hosts_file = HostsFile(Path(HOSTS_FILE_NAME), search.port)
        self._cache: LanCache | None = None
        self._look_again_s = 0.0
        # How long to wait for the next round, while something is short; 0 if nothing is.
        self._starved_pause_s = 0.0
        self._moved_s = 0.0

    def find_own(self) -> AmqpUrl:
        """Look where this node's own broker is, for the next `start`. Asks nobody.

        Raises:
            SettingsError: there is no network interface of the given name.
        """
        search = self._search
        self._own = None
        if search.rabbit_host is not None:
            self._own_url = search.url(parse_address(search.rabbit_host, search.port))
        else:
            self._own = OwnAddress(self.lan.here())
            self._own_url = search.url(Address(self._own.address, search.port))
        return self._own_url

    @property
    def own_url(self) -> AmqpUrl:
        """The URL of this node's own broker: as it is used, or before the start, as it would be."""
        used = self._own_url if self._thread is not None else None
        return used or self.scout.this.url

    def start(self) -> None:
        """Start to look for brokers. Does not wait.

        Raises:
            SettingsError: there is no network interface of the given name.
            OutOfResources: the thread cannot be started.
        """
        search = self._search
        own = (self._own_url or self.find_own()).address
        limits = search.limits
        if not search.rescan_interval_s:
            # Only another search could find again what was given up.
            limits = replace(limits, forget_after_s=0.0)
        with self._changed.lock:
            self._roster = roster = Roster(own, time.monotonic(), limits)
            self._is_to_ask = False
        # Taken now, as the program may change its working directory while the chart runs.
        try:
            folder = Path.cwd()
        except OSError:  # the directory was removed
            folder = Path()
        self._hosts_file = HostsFile(folder / HOSTS_FILE_NAME, search.port)
        tell_of_older_name(folder)
        self._own_name = self._name_to_look_up(own)
        self._cache = None
        if search.addresses is None:
            self._cache = LanCache(folder / CACHE_FILE_NAME, search.cache_valid_s)
        self._found = ()
        self._starved_pause_s = 0.0
        self._reports.begin()
        self._first_round.clear()
        self._stop = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(self._stop, roster), name=self._name, daemon=True
        )
        start_thread(thread)
        self._thread = thread
        allotment.join(self)

    def stop(self) -> None:
        """Stop looking, and break off a search that is under way.

        Waits for the thread: usually a fifth of a second, and at most ``stop_timeout_s``, which is
        reached only if the follower or ``on_change`` blocks.
        """
        self._stop.set()
        with self._changed.lock:
            self._changed.notify_all()
        thread, self._thread = self._thread, None
        self._own_url = None
        allotment.leave(self)
        # Not alive either if an exception such as KeyboardInterrupt came before its start.
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(self._search.stop_timeout_s)

    def wait_for_first_round(self, timeout_s: float) -> bool:
        """Wait until every candidate was probed once, or the hosts of a fresh cache are members.

        Returns:
            False if that took longer than ``timeout_s`` seconds.
        """
        return self._first_round.wait(timeout_s)

    def fault_of(self, address: Address) -> BrokerError | None:
        """Why the last round could not use a broker; `None` if it could, or did not ask it."""
        report = self.scout.last_report
        for row in () if report is None else report:
            if row.address == address:
                return row.error()
        return None

    def peers(self) -> tuple[Peer, ...]:
        """The brokers that are known, this node's own first; none before the start."""
        connected = self._follower.connected()
        with self._changed.lock:
            return () if self._roster is None else self._roster.peers(connected)

    @property
    def to_announce(self) -> Address | None:
        """The address of this node's own broker, for other nodes; `None` for nothing to announce.

        There is nothing before the start, nor on a machine that has found only a loopback address
        for itself. A loopback address that was *configured* is announced: the nodes then share one
        machine. A name that others would not take is announced as the IP address that it has.
        """
        roster = self._roster
        if roster is None:
            return None
        if self._own_name is not None:
            return self._own_name.address
        is_reachable = self._search.rabbit_host is not None or not is_loopback(roster.own.host)
        return roster.own if is_reachable else None

    @property
    def left(self) -> tuple[Address, ...]:
        """Where this node's own broker was lately, and is not any more; the latest first."""
        own = self._own
        if own is None or time.monotonic() - self._moved_s > _LEFT_S:
            return ()
        return tuple(Address(one, self._search.port) for one in own.left)

    def hear(
        self, address: Address, left: tuple[Address, ...] = (), announcer: bytes = b""
    ) -> None:
        """Take in that another node has announced its own broker; it is probed soon.

        If it joins, and nothing answers where it was before, what waits there goes to it.

        The caller vouches that the announcement is authentic, and does not call this if unknown
        brokers are unwelcome (``accept_unknown_peers=False``): that is a decision about messages,
        which are unknown here. Does nothing before the start.

        Args:
            address: where the broker is.
            left: where it was before, the latest first.
            announcer: stands for the start of the node that has announced it: its latest broker
                counts. Empty if that is not known.
        """
        with self._changed.lock:
            if self._roster is None:
                return
            if self._roster.means_this_machine(address):
                self._reports.hears_loopback(address)
                return
            if self._roster.source_of(address) is None and not self._vetting.admits(
                address, self._roster.own, self._hosts_file.hosts
            ):
                return
            left = tuple(one for one in left if ip_of(one.host) is not None)
            if self._roster.hear(address, time.monotonic(), left, announcer):
                self._is_to_ask = True
                self._changed.notify_all()

    def is_announced(self, address: Address) -> bool:
        """Whether a node has announced a broker, as far as that is remembered."""
        with self._changed.lock:
            return self._roster is not None and address in self._roster.announced

    def _name_to_look_up(self, own: Address) -> OwnName | None:
        """What has to be looked up for the announcement; nothing if the host is told as it is."""
        is_told = ip_of(own.host) is not None or is_loopback(own.host)
        if is_told or self._vetting.takes_names:
            return None
        return OwnName(
            own, lambda one: self._vetting.allows(one, one), lambda: self.lan.interface.address
        )

    # The thread.

    def _run(self, stop: threading.Event, roster: Roster) -> None:
        interval_s = self._search.rescan_interval_s or float("inf")
        next_round_s = time.monotonic()
        self._guard(lambda: self._trust_cache(roster))
        while not stop.is_set():
            now_s = time.monotonic()
            if self._guard(lambda: self._follow_own(roster)):
                next_round_s = now_s  # there may be other hosts at the new place
            if now_s >= next_round_s:
                next_round_s = now_s + interval_s
                self._guard(lambda: self._vetting.note_networks(self.lan.networks()))
                if self._guard(lambda: self._round(roster)):
                    self._note_end_of_shortage()
                self._first_round.set()
            else:
                self._guard(lambda: self._glance(roster))
            self._guard(lambda: self._keep_up(roster))
            if self._starved_pause_s:
                next_round_s = min(next_round_s, now_s + self._starved_pause_s)
            with self._changed.lock:
                self._changed.wait_for(
                    lambda: self._is_to_ask or stop.is_set(),
                    min(LOOK_INTERVAL_S, max(0.0, next_round_s - time.monotonic())),
                )
        self._first_round.set()

    def _guard(self, step: Callable[[], object]) -> bool:
        """Take a step; returns whether it has succeeded, and has not returned `False`."""
        try:
            return step() is not False
        except Exception as error:
            short = shortage(error)
            if short is not None:
                self._note_shortage(short)
            else:
                # A bug in one step must not end the thread: the next round may succeed.
                logger.exception("%s: a step of the search failed", self._name)
            return False

    def _note_shortage(self, short: OutOfResources) -> None:
        """Have the search tried again before its time; log it once, until a round succeeds."""
        if not self._starved_pause_s:
            text = "%s: brokers cannot be looked for, trying again: %s"
            logger.log(news.level(short), text, self._name, short)
        longest_s = self._search.rescan_interval_s or _STARVED_MOST_S
        self._starved_pause_s = min(longest_s, 2 * self._starved_pause_s or _STARVED_S)

    def _note_end_of_shortage(self) -> None:
        if self._starved_pause_s:
            logger.info("%s: brokers can be looked for again", self._name)
        self._starved_pause_s = 0.0

    def _follow_own(self, roster: Roster) -> bool:
        """Notice that this machine's address has changed; tells whether it has."""
        own, now_s = self._own, time.monotonic()
        if own is None or now_s < self._look_again_s or self._is_over(roster):
            return False
        used_s = time.thread_time()
        try:
            here = self.lan.here()
        except SettingsError as error:
            self._reports.lan_fails(error)
            return False
        used_s = time.thread_time() - used_s
        self._look_again_s = now_s + min(used_s / _LOOK_SHARE, _LOOK_MAX_S)
        interface = own.look(here)
        if interface is None:
            return False
        before, is_gone = own.address, own.is_gone(here)
        now = f"the address of this machine is now {interface.address} ({interface.name})"
        url = self._search.url(Address(interface.address, self._search.port))
        if not is_gone and not self.scout.has_broker(url.address, self._stop):
            # It may not have started yet, or not listen there.
            text = f"{now}, but no broker answers there: the one at {before} is still used"
            return not self._is_over(roster) and self._reports.own_stays(text)
        own.use(here)
        self._moved_s = now_s
        self._own_url = url
        with self._changed.lock:
            roster.move_own(url.address, now_s)
        self._reports.own_moved(f"{now}, and was {before}: its broker is used there")
        self._follower.own_moved(url, is_gone=is_gone)
        return True

    def _trust_cache(self, roster: Roster) -> None:
        """Begin with the hosts that an earlier search found; the first round probes them."""
        cached = None if self._cache is None else self._cache.load()
        if cached is None:
            return
        interface = self.lan.interface
        # The machine may have moved to another network since.
        near = [
            one
            for one in cached.addresses
            if one.host != interface.address and _is_in(one, interface.network)
        ]
        with self._changed.lock:
            now_s = time.monotonic()
            roster.use_places(self._places())
            change = roster.trust(near, now_s - cached.age_s, now_s)
        self._apply(change, roster)
        if change:
            self._first_round.set()

    def _round(self, roster: Roster) -> None:
        """Look for hosts, and probe all that are known and not connected."""
        self._hosts_file.refresh()
        if self._search.addresses is None:
            self._sweep()
        with self._changed.lock:
            self._is_to_ask = False
        reached, now_s = self._follower.reached(), time.monotonic()
        self._ask(roster, lambda one: one not in reached and not roster.rests(one, now_s))
        if self._cache is not None and not self._is_over(roster):
            with self._changed.lock:
                found = roster.found_on_lan()
            self._cache.save(found)

    def _glance(self, roster: Roster) -> None:
        """Probe only the brokers that became known since the last round."""
        changed = self._hosts_file.refresh()
        with self._changed.lock:
            to_ask = set(roster.take_due(time.monotonic(), look_ups_under_way()))
            self._is_to_ask = False
        if changed or to_ask:
            self._ask(roster, lambda address: address in to_ask)

    def _keep_up(self, roster: Roster) -> None:
        """Note which members are connected, and drop those that were gone for too long."""
        connected = self._follower.connected()
        now_s = time.monotonic()
        if self._own_name is not None:
            self._own_name.keep_up(now_s)
        with self._changed.lock:
            roster.see(connected, now_s)
            change = roster.forget(now_s)
        self._apply(change, roster)
        evidence = self._follower.evidence()
        with self._changed.lock:
            roster.use_places(self._places())
            change = roster.look(evidence, now_s)
        self._apply(change, roster)
        self._say_who_is_left_out(roster)

    def _places(self) -> dict[Kind, int]:
        """How many places there are now for brokers that the user does not name."""
        limits = self._search.limits
        return allotment.places(
            {Kind.FOUND: limits.most_found, Kind.ANNOUNCED: limits.most_announced}
        )

    def _say_who_is_left_out(self, roster: Roster) -> None:
        with self._changed.lock:
            left_out = {kind: roster.left_out(kind) for kind in Kind}
            crowded_out = roster.crowded_out
        self._reports.left_out(left_out, self._places())
        self._reports.crowded_out(crowded_out, self._search.limits.most_announced)

    def _sweep(self) -> None:
        try:
            found = self.lan.sweep(self._stop)
            here = self.lan.here()
        except SettingsError as error:  # an interface may disappear while the chart runs
            self._reports.lan_fails(error)
            self._found = ()
            return
        self._reports.lan_works()
        addresses = (parse_address(one, self._search.port) for one in found)
        # This machine's own broker is known, whichever address the machine was swept from.
        is_own = self._own is not None
        self._found = tuple(one for one in addresses if not (is_own and one.host in here.addresses))

    def _sources(self, roster: Roster) -> dict[Address, PeerSource]:
        """All candidates, and how each became known."""
        sources: dict[Address, PeerSource] = {}
        named = [parse_address(one, self._search.port) for one in self._search.addresses or ()]
        for source, addresses in (
            (PeerSource.OWN, [roster.own]),
            (PeerSource.NAMED, named),
            (PeerSource.HOSTS_FILE, self._hosts_file.hosts),
            (PeerSource.LAN, self._found),
            (PeerSource.HEARD, roster.announced),
        ):
            for address in addresses:
                sources.setdefault(address, source)
        return sources

    def _ask(self, roster: Roster, again: Callable[[Address], bool]) -> None:
        """Probe the candidates that were never probed, and those for which ``again`` holds."""
        with self._changed.lock:
            sources = self._sources(roster)
            change = roster.retain(sources)
            # An announced one waits until it is due: holders of the key can announce any number.
            candidates = [
                one
                for one in roster.candidates(sources)
                if sources.get(one) is not PeerSource.HEARD or roster.was_asked(one) or again(one)
            ]
            unasked = {one for one in candidates if roster.was_asked(one) and not again(one)}
        self._apply(change, roster)
        report = self.scout.ask(
            candidates,
            unasked=unasked,
            stop=self._stop,
            may_connect=lambda address, ip: (
                sources.get(address) is not PeerSource.HEARD
                or self._vetting.allows(
                    address._replace(host=ip), roster.own, self._hosts_file.hosts
                )
            ),
        )
        if self._is_over(roster):
            return
        rows = [row for row in report if row.address not in unasked]
        with self._changed.lock:
            change = roster.judge(rows, sources, time.monotonic())
        self._apply(change, roster, self._moves([row.address for row in rows], roster))
        for row in rows:
            if row.short is not None:
                continue
            self._report(row, sources.get(row.address), roster)
        self._reports.forget(sources.keys())
        for row in rows:
            if row.short is not None:
                raise row.short  # one for all: this round is tried again

    def _is_over(self, roster: Roster) -> bool:
        """Whether the search to which this roster belongs was stopped."""
        # A stopped search may have been started again, with another roster.
        return self._stop.is_set() or roster is not self._roster

    def _moves(self, asked: Iterable[Address], roster: Roster) -> list[tuple[Address, Address]]:
        """Find out which of the members were members at another address, which comes first."""
        with self._changed.lock:
            left = [
                (before, place, now) for now in asked for before, place in roster.take_left(now)
            ]
        if not left:
            return []
        # Another machine, with a broker, may have got such an address. All are asked at the same
        # time: others can tell of many at which nothing answers.
        empty = self.scout.empty_places({place for _, place, _ in left}, self._stop)
        moves = []
        with self._changed.lock:
            for before, place, now in left:
                are_members = before in roster.members and now in roster.members
                if place in empty and are_members and not self._is_over(roster):
                    roster.leave(before)
                    moves.append((before, now))
        return moves

    def _apply(
        self, change: PeersChanged, roster: Roster, moves: Sequence[tuple[Address, Address]] = ()
    ) -> None:
        """Have the node follow a change, then tell the user of it."""
        if not (change or moves) or self._is_over(roster):
            return
        for before, now in moves:
            self._follower.moved(self._search.url(before), self._search.url(now))
            logger.info("%s: the broker at %s is at %s now", self._name, before, now)
        self._remove(change.removed)
        for address in change.added:
            if not any(address == now for _, now in moves):
                self._follower.added(self._search.url(address))
            with self._changed.lock:
                source = roster.source_of(address)
            how = source.value if source is not None else ""
            level = logging.INFO if len(change.added) <= _MOST_LINES else logging.DEBUG
            logger.log(level, "%s: added the broker at %s (%s)", self._name, address, how)
        if len(change.added) > _MOST_LINES:
            logger.info("%s: added %d brokers", self._name, len(change.added))
        if self._on_change is None:
            return
        left = tuple(before for before, _ in moves)
        try:
            self._on_change(PeersChanged(change.added, change.removed + left))
        except Exception:
            logger.exception("%s: on_peers_changed raised", self._name)

    def _remove(self, addresses: Sequence[Address]) -> None:
        if not addresses:
            return
        # Together, because one that does not answer takes seconds.
        all_dropped = self._follower.removed([self._search.url(one) for one in addresses])
        total = sum(all_dropped)
        for address, dropped in zip(addresses, all_dropped, strict=True):
            if len(addresses) <= _MOST_LINES:
                log = logger.warning if dropped else logger.info
                log("%s: gave up the broker at %s, and %d events", self._name, address, dropped)
        if len(addresses) > _MOST_LINES:
            log = logger.warning if total else logger.info
            log("%s: gave up %d brokers, and %d events", self._name, len(addresses), total)

    def _report(self, row: ProbeResult, source: PeerSource | None, roster: Roster) -> None:
        """Have the log say what a probe has shown, if that is news."""
        if self._reports.is_told(row):
            return
        with self._changed.lock:
            standing = Standing(
                source,
                is_own=row.address == roster.own,
                is_member=row.address in roster.members,
                is_lasting=roster.is_announced_lastingly(row.address),
            )
        self._reports.probed(row, standing)


def _is_in(address: Address, network: IPv4Network) -> bool:
    try:
        return IPv4Address(address.host) in network
    except AddressValueError:
        return False
