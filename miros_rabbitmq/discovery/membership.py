"""What a node has of the search for brokers: who is a member, and where its own broker is.

The search itself is that of a `lookout`, which nodes of a process share if they look for the same
brokers, with the same login. What the node does with its members is the node's own business, and so
is where announcements come from: they arrive here as addresses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..answers import Answers
from ..exceptions import BrokerError
from ..urls import Address, AmqpUrl, parse_address
from .allotment import allotment
from .lan import LocalAreaNetwork
from .lookout import Lookout
from .own_address import OwnAddress
from .roster import Peer, PeersChanged
from .scout import RabbitScout
from .search import Search
from .shared_lookout import Scope, lookouts
from .subscriber import Follower, Subscriber


class Membership:
    """Has a lookout search for brokers, from `start` to `stop`.

    All methods may be called from any thread. `start` and `stop` do not run at the same time: the
    node takes care of that.

    Args:
        search: whom to look for, where, and how often.
        name: the chart's name, for the log and for the name of a thread.
        follower: the node.
        on_change: called in the subscriber's thread with each change, after the node has followed
            it. Exceptions that it raises are logged.
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
        self._name = name
        self._follower = follower
        self._on_change = on_change
        self._answers = answers or Answers()
        self._lan, self._scout = _tools(search)
        # None if ``rabbit_host`` says where it is, or if a lookout knows it already.
        self._own: OwnAddress | None = None
        self._own_url: AmqpUrl | None = None  # as it was found for the next start
        self._subscriber: Subscriber | None = None
        # The one that searches for this node, and after a stop the one that did; and where.
        self._lookout: Lookout | None = None
        self._folder = Path()

    def find_own(self) -> AmqpUrl:
        """Look where this node's own broker is, for the next `start`. Asks nobody.

        Raises:
            SettingsError: there is no network interface of the given name.
        """
        search = self._search
        self._own = None
        lookout = lookouts.present(self._scope())
        if lookout is not None:
            self._own_url = lookout.own_url
        elif search.rabbit_host is not None:
            self._own_url = search.url(parse_address(search.rabbit_host, search.port))
        else:
            self._own = OwnAddress(self._lan.here())
            self._own_url = search.url(Address(self._own.address, search.port))
        return self._own_url

    @property
    def lan(self) -> LocalAreaNetwork:
        """The LAN that is searched."""
        lookout = self._lookout
        return self._lan if lookout is None else lookout.lan

    @property
    def scout(self) -> RabbitScout:
        """What probes the candidates; ``scout.this`` is the node's own broker."""
        lookout = self._lookout
        return self._scout if lookout is None else lookout.scout

    @property
    def own_url(self) -> AmqpUrl:
        """The URL of this node's own broker: as it is used, or before the start, as it would be."""
        lookout = self._lookout if self._subscriber is not None else None
        return self.scout.this.url if lookout is None else lookout.own_url

    def start(self) -> None:
        """Start to look for brokers, or have others that do so already look for this node, too.

        Does not wait.

        Raises:
            SettingsError: there is no network interface of the given name.
            OutOfResources: the thread cannot be started.
        """
        own_url = self._own_url or self.find_own()
        self._subscriber = subscriber = Subscriber(
            self._name,
            self._search,
            own_url.address,
            self._follower,
            self._on_change,
            self._answers,
        )
        allotment.join(self)
        # Taken now, as the program may change its working directory while the chart runs.
        scope = self._scope()
        self._folder = scope.folder
        lookouts.join(scope, subscriber, lambda: self._make_lookout(scope), self._use)

    def _use(self, lookout: Lookout) -> None:
        self._lookout = lookout

    def _make_lookout(self, scope: Scope) -> Lookout:
        search = self._search
        if search.rabbit_host is not None:
            own_url = search.url(parse_address(search.rabbit_host, search.port))
        else:
            if self._own is None:  # the lookout that knew it has ended meanwhile
                self._own = OwnAddress(self._lan.here())
            own_url = search.url(Address(self._own.address, search.port))
        return Lookout(scope.search, scope.folder, self._own, own_url, self._lan, self._scout)

    def use(self, search: Search, *, at_once: bool) -> None:
        """Search otherwise, as other announcements count; no broker is given up. Does not wait.

        Args:
            search: differs from the present one in `Search.trust` only.
            at_once: not from the next start on only. Then neither `start` nor `stop` may run.

        Raises:
            OutOfResources: the thread cannot be started. All stays as it was until the next start.
        """
        if search == self._search:
            return
        self._search = search
        subscriber, lookout = self._subscriber, self._lookout
        if subscriber is None or lookout is None or not at_once:
            return
        scope = _scope(search, self._folder)

        def make() -> Lookout:
            self._lan, self._scout = _tools(search)
            return lookout.successor(scope.search, self._lan, self._scout)

        lookouts.move(scope, subscriber, lookout, make, self._use)

    def stop(self) -> None:
        """Have nobody look for this node any more; the last node breaks a search off.

        Waits for the threads: usually a fifth of a second, and at most ``stop_timeout_s``, which is
        reached only if the follower or ``on_change`` blocks.
        """
        until_s = time.monotonic() + self._search.stop_timeout_s
        allotment.leave(self)
        subscriber, lookout = self._subscriber, self._lookout
        if subscriber is not None:
            if lookout is not None:
                lookouts.leave(lookout, subscriber, self._search.stop_timeout_s)
            subscriber.stop(max(0.0, until_s - time.monotonic()))
        self._subscriber, self._own_url = None, None

    def wait_for_first_round(self, timeout_s: float) -> bool:
        """Wait until the node has followed what the first round has found.

        In that round, every candidate was probed once; or the hosts of a fresh cache are members.
        Where others have searched before this node came, the round is over already.

        Returns:
            False if that took longer than ``timeout_s`` seconds.
        """
        until_s = time.monotonic() + timeout_s
        subscriber, lookout = self._subscriber, self._lookout
        if subscriber is None or lookout is None or not lookout.wait_for_first_round(timeout_s):
            return False
        return subscriber.wait_until_followed(max(0.0, until_s - time.monotonic()))

    def fault_of(self, address: Address) -> BrokerError | None:
        """Why the last round could not use a broker; `None` if it could, or did not ask it."""
        lookout = self._lookout
        return None if lookout is None else lookout.fault_of(address)

    def peers(self) -> tuple[Peer, ...]:
        """The brokers that are known, this node's own first; none before the start."""
        lookout = self._lookout
        return () if lookout is None else lookout.peers(self._follower.connected())

    @property
    def to_announce(self) -> Address | None:
        """The address of this node's own broker, for other nodes; `None` for nothing to announce.

        There is nothing before the start, nor on a machine that has found only a loopback address
        for itself. A loopback address that was *configured* is announced: the nodes then share one
        machine. A name that others would not take is announced as the IP address that it has.
        """
        lookout = self._lookout
        return None if lookout is None else lookout.to_announce

    @property
    def left(self) -> tuple[Address, ...]:
        """Where this node's own broker was lately, and is not any more; the latest first."""
        lookout = self._lookout
        return () if lookout is None else lookout.left

    def hear(
        self, address: Address, left: tuple[Address, ...] = (), announcer: bytes = b""
    ) -> None:
        """Take in that another node has announced its own broker; it is probed soon.

        If it joins, and nothing answers where it was before, what waits there goes to it.

        The caller vouches that the announcement is authentic, and does not call this if unknown
        brokers are unwelcome (``accept_unknown_peers=False``): that is a decision about messages,
        which are unknown here. Does not wait, and does nothing before the start.

        Args:
            address: where the broker is.
            left: where it was before, the latest first.
            announcer: stands for the start of the node that has announced it: its latest broker
                counts. Empty if that is not known.
        """
        lookout = self._lookout
        if lookout is not None and self._subscriber is not None:
            lookout.hear(address, left, announcer)

    def is_announced(self, address: Address) -> bool:
        """Whether a node has announced a broker, as far as that is remembered."""
        lookout = self._lookout
        return lookout is not None and lookout.is_announced(address)

    def _scope(self) -> Scope:
        try:
            folder = Path.cwd()
        except OSError:  # the directory was removed
            folder = Path()
        return _scope(self._search, folder)


def _scope(search: Search, folder: Path) -> Scope:
    # How long a node waits for threads to end is its own business.
    return Scope(replace(search, stop_timeout_s=0.0), folder)


def _tools(search: Search) -> tuple[LocalAreaNetwork, RabbitScout]:
    """What one lookout needs for a search."""
    lan = LocalAreaNetwork(
        search.addresses, interface=search.interface, rabbit_host=search.rabbit_host
    )
    scout = RabbitScout(
        search.login.user,
        search.login.password,
        addresses=search.addresses,
        rabbit_host=search.rabbit_host,
        rabbit_port=search.port,
        rabbit_vhost=search.login.vhost,
        lan=lan,
        tls=search.tls,
    )
    return lan, scout
