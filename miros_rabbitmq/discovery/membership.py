"""Which brokers this node publishes to: looked for at the start, and again and again.

A thread gathers the candidates (named, of the hosts file, of the LAN, announced by nodes that are
heard), has the scout ask them, and tells the node of each member that comes or goes. Who is a
member is for the roster of `roster` to decide; what the node does with its
members is its own business.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from ..exceptions import SettingsError
from ..nets.settings import Settings
from ..urls import Address, AmqpUrl, parse_address
from ..wire.announcement import announce_broker, announced_broker, is_loopback
from .announced import AnnouncedBrokers
from .hosts_file import HOSTS_FILE_NAME, HostsFile
from .lan import LocalAreaNetwork
from .lan_cache import CACHE_FILE_NAME, LanCache
from .outcome import ProbeOutcome, ProbeResult
from .roster import Peer, PeersChanged, PeerSource, Roster
from .scout import RabbitScout

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0
"""How often it is looked whether the hosts file has changed, and who is connected."""

_SILENT_ANNOUNCEMENTS = 10
"""A host that is no member is a candidate until its announcement has failed to come this often."""


class Membership:
    """Looks for brokers in a thread of its own.

    `hear`, `announcement` and `peers` may be called from any thread.

    Args:
        settings: the node's.
        name: the chart; a part of the thread's name.
        on_added: called with the URL of each new member; in the membership's thread, like the next.
        on_removed: called with the URL of each that is a member no longer; returns how many events
            were given up with it.
        connected: tells to which members there is a working connection; from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        *,
        on_added: Callable[[AmqpUrl], object],
        on_removed: Callable[[AmqpUrl], int],
        connected: Callable[[], Collection[Address]],
    ) -> None:
        assert settings.rabbit_port is not None  # the settings have settled it
        self._settings = settings
        self._port = settings.rabbit_port
        self._name = f"miros discovery of {name}"
        self._on_added = on_added
        self._on_removed = on_removed
        self._connected = connected
        self.lan = LocalAreaNetwork(
            settings.addresses,
            interface=settings.interface,
            rabbit_host=settings.rabbit_host,
        )
        self.scout = RabbitScout(
            settings.rabbit_user,
            settings.rabbit_password,
            addresses=settings.addresses,
            rabbit_host=settings.rabbit_host,
            rabbit_port=self._port,
            rabbit_vhost=settings.rabbit_vhost,
            lan=self.lan,
            tls=settings.tls,
        )
        self._first_round = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # Guards the roster and what was heard; notified when there is somebody to ask, or to stop.
        self._changed = threading.Condition()
        self._own: Address | None = None
        self._roster: Roster | None = None
        self._announced = AnnouncedBrokers(
            settings.limits.unknown_peers,
            settings.limits.refused_retry_s,
            _SILENT_ANNOUNCEMENTS * settings.limits.announce_s,
        )
        self._to_ask: set[Address] = set()
        # From here on: the membership's thread only.
        self._found: tuple[Address, ...] = ()
        self._hosts_file = HostsFile(Path(HOSTS_FILE_NAME), self._port)
        self._cache = self._make_cache()
        self._reported: dict[Address, ProbeOutcome] = {}
        self._complaint = ""

    def start(self) -> None:
        """Start looking.

        Raises:
            SettingsError: there is no network interface of the given name.
        """
        own = self.scout.this.url.address
        now_s = time.monotonic()
        # Who is given up is found again by another look only.
        forget_after_s = self._settings.forget_after if self._settings.rescan_interval else 0.0
        with self._changed:
            self._own = own
            self._roster = Roster(own, forget_after_s, now_s)
            self._announced.clear()
            self._to_ask.clear()
        # Where the program is now: it may go elsewhere while the chart runs.
        try:
            folder = Path.cwd()
        except OSError:  # it was removed
            folder = Path()
        self._hosts_file = HostsFile(folder / HOSTS_FILE_NAME, self._port)
        self._cache = self._make_cache(folder)
        self._found = ()
        self._reported.clear()
        self._first_round.clear()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, self._roster), name=self._name, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a sweep or a round of probes that is under way is broken off."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            # It ends within a fifth of a second, unless a callback of the user's holds it up.
            thread.join(self._settings.limits.stop_timeout_s)

    def wait_for_first_round(self, timeout: float) -> bool:
        """Wait until every candidate was asked once, or those of a fresh cache are members."""
        return self._first_round.wait(timeout)

    def peers(self) -> tuple[Peer, ...]:
        """The brokers that are known, this node's own first; none before the start."""
        connected = self._connected()
        with self._changed:
            return () if self._roster is None else self._roster.peers(connected)

    def announcement(self) -> Any:
        """What to tell others of this node: its broker, where that has an address for others."""
        own = self._own
        if own is None or (self._settings.rabbit_host is None and is_loopback(own.host)):
            return None
        return announce_broker(own)

    def hear(self, announcement: Any) -> None:
        """Take what another node says of itself; authentic, but otherwise unchecked."""
        address = announced_broker(announcement)
        own = self._own
        if address is None or own is None or not self._settings.accept_unknown_peers:
            return
        if is_loopback(address.host) and not is_loopback(own.host):
            return  # it would be this machine
        with self._changed:
            if self._roster is None or address in self._roster.members:
                return
            is_to_be_asked = self._announced.hear(address, time.monotonic())
            if is_to_be_asked is None:
                logger.debug("%s: %s is one announced broker too many", self._name, address)
            elif is_to_be_asked:
                self._to_ask.add(address)
                self._changed.notify_all()

    # The thread.

    def _run(self, stop: threading.Event, roster: Roster) -> None:
        interval_s = self._settings.rescan_interval or float("inf")
        next_round_s = time.monotonic()
        self._guard(lambda: self._trust_cache(roster))
        while not stop.is_set():
            now_s = time.monotonic()
            if now_s >= next_round_s:
                next_round_s = now_s + interval_s
                self._guard(lambda: self._round(roster))
                self._first_round.set()
            else:
                self._guard(lambda: self._glance(roster))
            self._guard(lambda: self._keep_up(roster))
            with self._changed:
                self._changed.wait_for(
                    lambda: bool(self._to_ask) or stop.is_set(),
                    min(LOOK_INTERVAL_S, max(0.0, next_round_s - time.monotonic())),
                )
        self._first_round.set()

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            # A bug of ours must cost a round, never the thread.
            logger.exception("%s: a round failed", self._name)

    def _trust_cache(self, roster: Roster) -> None:
        """Begin with what an earlier search found; the first round verifies it."""
        cached = None if self._cache is None else self._cache.load()
        if cached is None:
            return
        interface = self.lan.interface
        # A machine that has moved has other neighbours now.
        near = [
            one
            for one in cached.addresses
            if one.host != interface.address and _is_in(one, interface.network)
        ]
        with self._changed:
            change = roster.trust(near, time.monotonic() - cached.age_s)
        self._apply(change, roster)
        if change:
            self._first_round.set()

    def _round(self, roster: Roster) -> None:
        """Look for hosts, and ask all that are known and not connected."""
        self._hosts_file.refresh()
        if self._settings.addresses is None:
            self._sweep()
        with self._changed:
            self._to_ask.clear()
        connected = self._connected()
        self._ask(roster, lambda address: address not in connected)
        if self._cache is not None and not self._is_over(roster):
            with self._changed:
                found = roster.found_on_lan()
            self._cache.save(found)

    def _glance(self, roster: Roster) -> None:
        """Ask those only that have come up since the last round."""
        changed = self._hosts_file.refresh()
        with self._changed:
            to_ask = set(self._to_ask)
            self._to_ask.clear()
        if changed or to_ask:
            self._ask(roster, lambda address: address in to_ask)

    def _keep_up(self, roster: Roster) -> None:
        """Note who is there, and give up who was gone for too long."""
        connected = self._connected()
        now_s = time.monotonic()
        with self._changed:
            roster.see(connected, now_s)
            change = roster.forget(now_s)
            self._announced.forget(roster.members, now_s)
        self._apply(change, roster)

    def _sweep(self) -> None:
        try:
            found = self.lan.sweep(self._stop)
        except SettingsError as error:  # an interface may go while the chart runs
            if self._complaint != str(error):
                logger.warning("%s: the LAN cannot be searched: %s", self._name, error)
            self._complaint = str(error)
            self._found = ()
            return
        self._complaint = ""
        self._found = tuple(parse_address(one, self._port) for one in found)

    def _sources(self) -> dict[Address, PeerSource]:
        """All candidates, and how each is known."""
        sources: dict[Address, PeerSource] = {}
        named = [parse_address(one, self._port) for one in self._settings.addresses or ()]
        for source, addresses in (
            (PeerSource.OWN, [self._own] if self._own is not None else []),
            (PeerSource.NAMED, named),
            (PeerSource.HOSTS_FILE, self._hosts_file.hosts),
            (PeerSource.LAN, self._found),
            (PeerSource.HEARD, tuple(self._announced)),
        ):
            for address in addresses:
                sources.setdefault(address, source)
        return sources

    def _ask(self, roster: Roster, again: Callable[[Address], bool]) -> None:
        """Ask the candidates that were not asked yet, and those to be asked again."""
        with self._changed:
            sources = self._sources()
            change = roster.retain(sources)
            candidates = roster.candidates(sources)
            unasked = {one for one in candidates if roster.was_asked(one) and not again(one)}
        self._apply(change, roster)
        report = self.scout.ask(candidates, unasked=unasked, stop=self._stop)
        if self._is_over(roster):
            return
        rows = [row for row in report if row.address not in unasked]
        with self._changed:
            change = roster.judge(rows, sources, time.monotonic())
        self._apply(change, roster)
        for row in rows:
            self._report(row, sources.get(row.address))

    def _is_over(self, roster: Roster) -> bool:
        """It was stopped, and perhaps started again, since this roster was made."""
        return self._stop.is_set() or roster is not self._roster

    def _apply(self, change: PeersChanged, roster: Roster) -> None:
        """Have the node follow a change, and tell of it."""
        if not change or self._is_over(roster):
            return
        for address in change.removed:
            dropped = self._on_removed(self._settings.url(address))
            log = logger.warning if dropped else logger.info
            log("%s: gave up the broker at %s, and %d events", self._name, address, dropped)
        for address in change.added:
            self._on_added(self._settings.url(address))
            with self._changed:
                source = roster.source_of(address)
            how = source.value if source is not None else ""
            logger.info("%s: added the broker at %s (%s)", self._name, address, how)
        callback = self._settings.on_peers_changed
        if callback is None:
            return
        try:
            callback(change)
        except Exception:
            logger.exception("%s: on_peers_changed raised", self._name)

    def _report(self, row: ProbeResult, source: PeerSource | None) -> None:
        """Say of a host why it cannot be used; once, until the reason changes."""
        if self._reported.get(row.address) is row.outcome:
            return
        self._reported[row.address] = row.outcome
        error = row.error()
        # Of the own broker, the node itself warns when it starts.
        is_own = row.address == self._own
        if error is not None and source is not None and source.by_user and not is_own:
            logger.warning("%s: %s", self._name, error)
        elif row.outcome.nothing_there:
            logger.debug("%s: %s: %s", self._name, row.address, row.outcome.value)
        else:
            logger.info("%s: %s: %s", self._name, row.address, row.outcome.value)

    def _make_cache(self, folder: Path | None = None) -> LanCache | None:
        if self._settings.addresses is not None or folder is None:
            return None
        return LanCache(folder / CACHE_FILE_NAME, self._settings.time_out_in_minutes * 60.0)


def _is_in(address: Address, network: Any) -> bool:
    try:
        return IPv4Address(address.host) in network
    except AddressValueError:
        return False
