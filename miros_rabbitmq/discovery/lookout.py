"""The lookout: a thread that looks for brokers, at the start and again and again, for some nodes.

The thread collects candidates (named by the user, in the hosts file, on the LAN, announced by other
nodes), has the scout probe them, and shows its subscribers who is a member. The `Roster` decides
that. What the connections of the nodes show counts as one: a broker that one node reaches is not
probed for another. Where announcements come from is the nodes' business: they arrive here as
addresses.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from ..condition import Condition
from ..exceptions import BrokerError, OutOfResources, SettingsError
from ..host_names import ip_of, is_loopback
from ..resolve import look_ups_under_way
from ..resources import news, shortage, start_thread
from ..urls import Address, AmqpUrl, parse_address
from .allotment import allotment
from .gathered import Gathered
from .hosts_file import HOSTS_FILE_NAME, HostsFile, tell_of_older_name
from .lan import LocalAreaNetwork
from .lan_cache import CACHE_FILE_NAME, LanCache
from .outcome import ProbeResult
from .own_address import OwnAddress
from .own_name import OwnName
from .peer_reports import PeerReports, Standing
from .places import Kind
from .roster import Peer, PeersChanged, PeerSource, Roster
from .rounds import Rounds
from .scout import RabbitScout
from .search import Search
from .subscriber import Own, Subscriber
from .vetting import Vetting

logger: logging.Logger = logging.getLogger(__name__)

NAME = "miros discovery"
"""That of the thread, and how its lines in the log begin."""

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

_MOST_HEARD = 1_024
"""The most announcements that wait while the roster is in use; the oldest go, and come again."""


class _Heard(NamedTuple):
    """An announcement."""

    address: Address
    left: tuple[Address, ...]
    announcer: bytes


class Lookout:
    """Looks for brokers in a thread of its own, from `start` until it is asked to end.

    It has one life. All methods may be called from any thread.

    Attributes:
        lan: the LAN that is searched.
        scout: what probes the candidates; ``scout.this`` is the nodes' own broker.

    Args:
        search: whom to look for, where, and how often.
        folder: the working directory of the nodes.
        own: follows the address of this machine; `None` if ``rabbit_host`` says where the own
            broker is.
        own_url: the own broker.
        lan: the LAN.
        scout: the scout.
    """

    def __init__(
        self,
        search: Search,
        folder: Path,
        own: OwnAddress | None,
        own_url: AmqpUrl,
        lan: LocalAreaNetwork,
        scout: RabbitScout,
    ) -> None:
        self.lan = lan
        self.scout = scout
        self._search = search
        self._own = own
        self._own_url = own_url
        self._name = NAME
        self._vetting = Vetting(self._name, search)
        self._subscribers: tuple[Subscriber, ...] = ()  # replaced as a whole; read without a lock
        self._gathered = Gathered(self._name, lambda: self._subscribers)
        self._reports = PeerReports(self._name, self._gathered)
        self._first_round = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        limits = search.limits
        if not search.rescan_interval_s:
            # Only another search could find again what was given up.
            limits = replace(limits, forget_after_s=0.0)
        # Guards the roster, the brokers to probe, the rounds and the subscribers. Notified when
        # there is one to probe, or when the thread has to end.
        self._changed = Condition()
        self._roster = Roster(own_url.address, time.monotonic(), limits)
        self._is_to_ask = False
        self._rounds = Rounds(search.rescan_interval_s)
        self._is_gone = False  # whether this machine does not have the former own address any more
        # Announcements that came while another thread had the lock: the reactors that hear them
        # wait for nobody.
        self._heard: deque[_Heard] = deque(maxlen=_MOST_HEARD)
        # From here on: for the lookout's thread only.
        self._hosts_file = HostsFile(folder / HOSTS_FILE_NAME, search.port)
        self._folder = folder
        self._cache: LanCache | None = None
        if search.addresses is None:
            self._cache = LanCache(folder / CACHE_FILE_NAME, search.cache_valid_s)
        self._found: tuple[Address, ...] = ()
        self._moved_s = 0.0
        self._look_again_s = 0.0
        # None if the own broker is announced as it is given.
        self._own_name = self._name_to_look_up(own_url.address)

    def successor(self, search: Search, lan: LocalAreaNetwork, scout: RabbitScout) -> Lookout:
        """Make another one that begins with what this one knows, and is not started.

        Args:
            search: whom it is to look for.
            lan: the LAN, for it alone.
            scout: the scout, for it alone.
        """
        with self._changed.lock:
            one = Lookout(search, self._folder, copy.copy(self._own), self._own_url, lan, scout)
            one.begin_with(copy.deepcopy(self._roster), self._moved_s, is_gone=self._is_gone)
        return one

    def begin_with(self, roster: Roster, moved_s: float, *, is_gone: bool) -> None:
        """Take over, before the start, what another one knows.

        Args:
            roster: the brokers.
            moved_s: when this machine's address has changed, by `time.monotonic`.
            is_gone: as for `Own`.
        """
        self._roster, self._moved_s, self._is_gone = roster, moved_s, is_gone

    def start(self) -> None:
        """Start to look for brokers. Does not wait.

        Raises:
            OutOfResources: the thread cannot be started.
        """
        tell_of_older_name(self._folder)
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        start_thread(thread)
        self._thread = thread

    def ask_to_end(self) -> None:
        """Have the thread end, and break off a search that is under way. Returns at once."""
        self._stop.set()
        with self._changed.lock:
            self._changed.notify_all()

    def wait_for_end(self, timeout_s: float) -> bool:
        """Wait for the thread's end, which usually takes a fifth of a second.

        Returns:
            False if it has not ended in time.
        """
        thread = self._thread
        # Not alive either if an exception such as KeyboardInterrupt came before its start.
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Show a subscriber the present members, and all changes from now on."""
        with self._changed.lock:
            if subscriber not in self._subscribers:
                self._subscribers = (*self._subscribers, subscriber)
            self._rounds.join()
            self._changed.notify_all()
            subscriber.show(self._members(), self._own_now())

    def unsubscribe(self, subscriber: Subscriber) -> bool:
        """Show a subscriber nothing more, and forget what its node has told; returns at once.

        With the last one, the search is broken off.

        Returns:
            whether there are others.
        """
        with self._changed.lock:
            others = tuple(one for one in self._subscribers if one is not subscriber)
            if not others:
                # First, as a search for nobody would probe what nobody reaches any more.
                self.ask_to_end()
            self._subscribers = others
            return bool(others)

    @property
    def members(self) -> frozenset[Address]:
        """All brokers to publish to."""
        with self._changed.lock:
            return frozenset(self._roster.members)

    @property
    def own_url(self) -> AmqpUrl:
        """The URL of the nodes' own broker, as it is used."""
        return self._own_url

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

    def peers(self, connected: Collection[Address]) -> tuple[Peer, ...]:
        """The brokers that are known, the own one first.

        Args:
            connected: the brokers to which the node that asks has a working connection.
        """
        with self._changed.lock:
            return self._roster.peers(connected)

    @property
    def to_announce(self) -> Address | None:
        """The address of the own broker, for other nodes; see `Membership.to_announce`."""
        if self._own_name is not None:
            return self._own_name.address
        own = self._roster.own
        return own if self._search.rabbit_host is not None or not is_loopback(own.host) else None

    @property
    def left(self) -> tuple[Address, ...]:
        """Where the own broker was lately, and is not any more; the latest first."""
        own = self._own
        if own is None or time.monotonic() - self._moved_s > _LEFT_S:
            return ()
        return tuple(Address(one, self._search.port) for one in own.left)

    def hear(self, address: Address, left: tuple[Address, ...], announcer: bytes) -> None:
        """Take in that another node has announced its own broker; see `Membership.hear`.

        Does not wait: what comes while another thread is at the roster is taken in a moment later.
        """
        self._heard.append(_Heard(address, left, announcer))
        self._take_heard()

    def _take_heard(self) -> None:
        # Again after the lock was released, as others may have left something meanwhile.
        while self._heard and self._changed.lock.acquire(blocking=False):
            try:
                while self._heard:
                    self._hear(*self._heard.popleft())
            finally:
                self._changed.lock.release()

    def _hear(self, address: Address, left: tuple[Address, ...], announcer: bytes) -> None:
        """Take an announcement in. Called with the lock."""
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
            return address in self._roster.announced

    def _members(self) -> dict[Address, str]:
        """All members but the own broker, and how each became known. Called with the lock."""
        roster = self._roster
        members = {}
        for address in roster.members:
            if address != roster.own:
                source = roster.source_of(address)
                members[address] = source.value if source is not None else ""
        return members

    def _own_now(self) -> Own:
        return Own(self._own_url.address, self._is_gone)

    def _name_to_look_up(self, own: Address) -> OwnName | None:
        """What has to be looked up for the announcement; nothing if the host is told as it is."""
        is_told = ip_of(own.host) is not None or is_loopback(own.host)
        if is_told or self._vetting.takes_names:
            return None
        return OwnName(
            own, lambda one: self._vetting.allows(one, one), lambda: self.lan.interface.address
        )

    # The thread.

    def _run(self) -> None:
        stop, rounds = self._stop, self._rounds
        self._guard(self._trust_cache)
        while not stop.is_set():
            has_moved = self._guard(self._follow_own)
            now_s = time.monotonic()
            with self._changed.lock:
                if has_moved:  # there may be other hosts at the new place
                    rounds.hasten(now_s)
                is_due = rounds.is_due(now_s)
                if is_due:
                    rounds.begin(now_s)
            if is_due:
                self._guard(lambda: self._vetting.note_networks(self.lan.networks()))
                if self._guard(self._round):
                    self._note_end_of_shortage()
                self._first_round.set()
            else:
                self._guard(self._glance)
            self._guard(self._keep_up)
            with self._changed.lock:
                self._changed.wait_for(
                    lambda: self._is_to_ask or stop.is_set() or rounds.is_wanted(time.monotonic()),
                    min(LOOK_INTERVAL_S, rounds.wait_s(time.monotonic())),
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
        with self._changed.lock:
            is_first = self._rounds.starve(time.monotonic())
        if is_first:
            text = "%s: brokers cannot be looked for, trying again: %s"
            logger.log(news.level(short), text, self._name, short)

    def _note_end_of_shortage(self) -> None:
        with self._changed.lock:
            was_short = self._rounds.recover()
        if was_short:
            logger.info("%s: brokers can be looked for again", self._name)

    def _follow_own(self) -> bool:
        """Notice that this machine's address has changed; tells whether it has."""
        own, now_s = self._own, time.monotonic()
        if own is None or now_s < self._look_again_s or self._is_over:
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
            return not self._is_over and self._reports.own_stays(text)
        own.use(here)
        self._moved_s = now_s
        with self._changed.lock:
            self._own_url, self._is_gone = url, is_gone
            self._roster.move_own(url.address, now_s)
        self._reports.own_moved(f"{now}, and was {before}: its broker is used there")
        self._show(PeersChanged((url.address,)))
        return True

    def _trust_cache(self) -> None:
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
            self._roster.use_places(self._places())
            change = self._roster.trust(near, now_s - cached.age_s, now_s)
        self._show(change)
        if change:
            self._first_round.set()

    def _round(self) -> None:
        """Look for hosts, and probe all that are known and not connected."""
        self._hosts_file.refresh()
        if self._search.addresses is None:
            self._sweep()
        with self._changed.lock:
            self._is_to_ask = False
        reached, now_s = self._gathered.reached(), time.monotonic()
        self._ask(lambda one: one not in reached and not self._roster.rests(one, now_s))
        if self._cache is not None and not self._is_over:
            with self._changed.lock:
                found = self._roster.found_on_lan()
            self._cache.save(found)

    def _glance(self) -> None:
        """Probe only the brokers that became known since the last round."""
        changed = self._hosts_file.refresh()
        self._take_heard()
        with self._changed.lock:
            to_ask = set(self._roster.take_due(time.monotonic(), look_ups_under_way()))
            self._is_to_ask = False
        if changed or to_ask:
            self._ask(lambda address: address in to_ask)

    def _keep_up(self) -> None:
        """Note which members are connected, and drop those that were gone for too long."""
        connected = self._gathered.connected()
        now_s = time.monotonic()
        if self._own_name is not None:
            self._own_name.keep_up(now_s)
        with self._changed.lock:
            self._roster.see(connected, now_s)
            change = self._roster.forget(now_s)
        if change:
            self._show(change)
        evidence, places = self._gathered.evidence(), self._places()
        with self._changed.lock:
            self._roster.use_places(places)
            change = self._roster.look(evidence, now_s)
            left_out = {kind: self._roster.left_out(kind) for kind in Kind}
            crowded_out = self._roster.crowded_out
        self._show(change)
        self._reports.left_out(left_out, places)
        self._reports.crowded_out(crowded_out, self._search.limits.most_announced)

    def _places(self) -> dict[Kind, int]:
        """How many places there are now for brokers that the user does not name."""
        limits = self._search.limits
        return allotment.places(
            {Kind.FOUND: limits.most_found, Kind.ANNOUNCED: limits.most_announced}
        )

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

    def _sources(self) -> dict[Address, PeerSource]:
        """All candidates, and how each became known."""
        sources: dict[Address, PeerSource] = {}
        named = [parse_address(one, self._search.port) for one in self._search.addresses or ()]
        for source, addresses in (
            (PeerSource.OWN, [self._roster.own]),
            (PeerSource.NAMED, named),
            (PeerSource.HOSTS_FILE, self._hosts_file.hosts),
            (PeerSource.LAN, self._found),
            (PeerSource.HEARD, self._roster.announced),
        ):
            for address in addresses:
                sources.setdefault(address, source)
        return sources

    def _ask(self, again: Callable[[Address], bool]) -> None:
        """Probe the candidates that were never probed, and those for which ``again`` holds."""
        with self._changed.lock:
            sources = self._sources()
            change = self._roster.retain(sources)
            # An announced one waits until it is due: holders of the key can announce any number.
            candidates = [
                one
                for one in self._roster.candidates(sources)
                if sources.get(one) is not PeerSource.HEARD
                or self._roster.was_asked(one)
                or again(one)
            ]
            unasked = {one for one in candidates if self._roster.was_asked(one) and not again(one)}
        self._show(change)
        if self._is_over:
            return
        report = self.scout.ask(
            candidates,
            unasked=unasked,
            stop=self._stop,
            may_connect=lambda address, ip: (
                sources.get(address) is not PeerSource.HEARD
                or self._vetting.allows(
                    address._replace(host=ip), self._roster.own, self._hosts_file.hosts
                )
            ),
        )
        if self._is_over:
            return
        rows = [row for row in report if row.address not in unasked]
        with self._changed.lock:
            change = self._roster.judge(rows, sources, time.monotonic())
        self._show(change, self._moves([row.address for row in rows]))
        for row in rows:
            if row.short is not None:
                continue
            self._report(row, sources.get(row.address))
        self._reports.forget(sources.keys())
        for row in rows:
            if row.short is not None:
                raise row.short  # one for all: this round is tried again

    @property
    def _is_over(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    def _moves(self, asked: Iterable[Address]) -> list[tuple[Address, Address]]:
        """Find out which of the members were members at another address, which comes first."""
        with self._changed.lock:
            left = [
                (before, place, now)
                for now in asked
                for before, place in self._roster.take_left(now)
            ]
        if not left:
            return []
        # Another machine, with a broker, may have got such an address. All are asked at the same
        # time: others can tell of many at which nothing answers.
        empty = self.scout.empty_places({place for _, place, _ in left}, self._stop)
        moves = []
        with self._changed.lock:
            for before, place, now in left:
                are_members = before in self._roster.members and now in self._roster.members
                if place in empty and are_members and not self._is_over:
                    self._roster.leave(before)
                    moves.append((before, now))
        return moves

    def _show(
        self, change: PeersChanged | None = None, moves: Sequence[tuple[Address, Address]] = ()
    ) -> None:
        """Have the nodes follow a change of the members, or what some could not follow before."""
        if self._is_over:
            return
        # With the lock, so that whoever unsubscribes is shown nothing after that.
        with self._changed.lock:
            to_show = [one for one in self._subscribers if change or moves or one.is_behind]
            if to_show:
                members, own = self._members(), self._own_now()
            for one in to_show:
                one.show(members, own, moves)

    def _report(self, row: ProbeResult, source: PeerSource | None) -> None:
        """Have the log say what a probe has shown, if that is news."""
        if self._reports.is_told(row):
            return
        with self._changed.lock:
            standing = Standing(
                source,
                is_own=row.address == self._roster.own,
                is_member=row.address in self._roster.members,
                is_lasting=self._roster.is_announced_lastingly(row.address),
            )
        self._reports.probed(row, standing)


def _is_in(address: Address, network: IPv4Network) -> bool:
    try:
        return IPv4Address(address.host) in network
    except AddressValueError:
        return False
