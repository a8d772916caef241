"""RabbitScout: which hosts run a RabbitMQ that accepts our login, and why others cannot be used.

The candidates are given by the user, or come from a `LocalAreaNetwork`. This node's own broker is
always the first of them. The module `probe` asks them, and `outcome` has the words for the results.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from ..interruption import refuse_to_wait_for
from ..tls import tls_from_environment
from ..urls import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    Address,
    AmqpUrl,
    address_texts,
    check_login,
    check_tls,
    parse_address,
)
from .lan import LocalAreaNetwork
from .outcome import ScoutReport, short, without_duplicates
from .probe import (
    CONNECT_TIMEOUT_S,
    PARALLELISM,
    PROBE_TIMEOUT_S,
    MayConnect,
    ProbeLimits,
    probe_all,
)
from .search import Login

logger: logging.Logger = logging.getLogger(__name__)


class ThisNode:
    """This node's own broker, as it is configured, whether or not it works at present.

    Args:
        find_own: finds its address, without asking anybody.
        url_of: makes the URL of a broker.
    """

    def __init__(
        self, find_own: Callable[[], Address], url_of: Callable[[Address], AmqpUrl]
    ) -> None:
        self._find_own = find_own
        self._url_of = url_of

    @property
    def url(self) -> AmqpUrl:
        """The URL of this node's own broker. Asks nobody for it."""
        return self._url_of(self._find_own())

    @property
    def address(self) -> str:
        """Its ``host``, or ``host:port`` where the port is not 5672."""
        return short(self._find_own())


class OtherNodes:
    """The working brokers besides this node's own.

    Args:
        find: finds their addresses.
        url_of: makes the URL of a broker.
    """

    def __init__(
        self, find: Callable[[], list[Address]], url_of: Callable[[Address], AmqpUrl]
    ) -> None:
        self._find = find
        self._url_of = url_of

    @property
    def urls(self) -> list[AmqpUrl]:
        """Their URLs. The first use probes."""
        return [self._url_of(address) for address in self._find()]

    @property
    def addresses(self) -> list[str]:
        """Their addresses, each ``host``, or ``host:port`` where the port is not 5672."""
        return [short(address) for address in self._find()]


class RabbitScout:
    """Finds the brokers that this node can use.

    ::

        scout = RabbitScout("robot", "rabbit", addresses=["192.168.1.71", "robot.example:5673"])
        for url in scout.urls: ...
        print(scout.report)      # a row for each candidate, and why it cannot be used

    The constructor asks nobody. The first use of a result probes all candidates; the results stay
    until `probe` or `sweep` replaces them. All of it may be used from any thread. While one thread
    probes, other threads get the earlier results, or wait if there are none yet.

    Attributes:
        this: this node's own broker, with ``url`` and ``address``.
        other: the other working brokers, with ``urls`` and ``addresses``.

    Args:
        rabbit_user: the user, the same at every broker.
        rabbit_password: the password. It is sent to RabbitMQ brokers only, and shown nowhere.
        addresses: the candidates, each ``host`` or ``host:port``; a host is a name or an IP
            address, an IPv6 address with a port in brackets. If they are given, the LAN is not
            searched. This node's own broker is probed too, even if it is not one of them.
        rabbit_host: the host of this node's own broker; by default this machine's address on
            its LAN.
        rabbit_port: the port of this node's own broker, and of candidates that are given without
            a port; default 5672, or 5671 with TLS.
        rabbit_vhost: the virtual host.
        lan: where the candidates come from if ``addresses`` does not name them.
        tls: the context for TLS to all brokers; by default, what the environment
            describes (see `tls_from_environment`), or else plain TCP.
        connect_timeout_s: seconds for a TCP connection to a candidate.
        parallelism: how many candidates are probed at once.
        limits: all limits of a probe, in place of the two above.

    Raises:
        SettingsError: an address is neither ``host`` nor ``host:port``, or another argument, or
            the environment, has what cannot work.
    """

    def __init__(
        self,
        rabbit_user: str,
        rabbit_password: str,
        *,
        addresses: Iterable[str] | None = None,
        rabbit_host: str | None = None,
        rabbit_port: int | None = None,
        rabbit_vhost: str = "/",
        lan: LocalAreaNetwork | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        parallelism: int = PARALLELISM,
        limits: ProbeLimits | None = None,
    ) -> None:
        check_tls(tls)
        if tls is None:
            tls = tls_from_environment()
        if rabbit_port is None:
            rabbit_port = DEFAULT_PORT if tls is None else DEFAULT_TLS_PORT
        if addresses is not None:
            addresses = address_texts(addresses, rabbit_port)
        self.this: ThisNode = ThisNode(self._own, self._url)
        self.other: OtherNodes = OtherNodes(self._others, self._url)
        self.lan: LocalAreaNetwork = lan or LocalAreaNetwork(addresses, rabbit_host=rabbit_host)
        check_login(rabbit_user, rabbit_password, rabbit_vhost)
        self._login = Login(rabbit_user, rabbit_password, rabbit_vhost)
        self._named = None if addresses is None else _parse(addresses, rabbit_port)
        self._own_host = rabbit_host
        self._port = rabbit_port
        self._tls = tls
        self._limits = limits or ProbeLimits(
            connect_timeout_s=connect_timeout_s,
            probe_timeout_s=PROBE_TIMEOUT_S - CONNECT_TIMEOUT_S + connect_timeout_s,
            parallelism=parallelism,
        )
        self._probing = threading.Lock()  # held for a round, so that two do not run at once
        self._report: ScoutReport | None = None  # replaced as a whole; read without a lock
        if rabbit_host is not None:
            parse_address(rabbit_host, rabbit_port)

    def __repr__(self) -> str:
        report = self._report
        found = "not asked yet" if report is None else f"{len(report.connected)} of {len(report)}"
        return f"<RabbitScout {self._login.user!r} vhost {self._login.vhost!r}: {found}>"

    @property
    def urls(self) -> list[AmqpUrl]:
        """The URLs of all working brokers, this node's own first if it works."""
        return [self._url(row.address) for row in self.report.connected]

    @property
    def url(self) -> list[AmqpUrl]:
        """An older name for `urls`."""
        return self.urls

    @property
    def addresses(self) -> list[str]:
        """Their addresses, each ``host``, or ``host:port`` where the port is not 5672."""
        return [short(row.address) for row in self.report.connected]

    @property
    def report(self) -> ScoutReport:
        """The results of the last round of probes. The first use runs one, as `probe` does."""
        report = self._report
        if report is not None:
            return report
        refuse_to_wait_for(self._probing, "a search for brokers")
        with self._probing:
            # Another thread may have run the first round while this one waited for the lock.
            return self._report or self._probe()

    @property
    def last_report(self) -> ScoutReport | None:
        """The results of the last round; `None` before the first. Never waits."""
        return self._report

    def probe(self) -> ScoutReport:
        """Probe all candidates again, and resolve their names again.

        Blocks for three seconds at most; longer only for more candidates than ``parallelism``.
        Without ``addresses``, the first use also waits for the LAN to be swept.
        """
        refuse_to_wait_for(self._probing, "a search for brokers")
        with self._probing:
            return self._probe()

    def sweep(self) -> ScoutReport:
        """Look again for hosts on the LAN, then probe all candidates again. Blocks, as `probe`."""
        if self._named is None:
            self.lan.sweep()
        return self.probe()

    def ask(
        self,
        candidates: Sequence[Address],
        *,
        unasked: Collection[Address] = (),
        stop: threading.Event | None = None,
        may_connect: MayConnect | None = None,
    ) -> ScoutReport:
        """Probe the given candidates, instead of those of this scout; otherwise as `probe`.

        Args:
            candidates: whom to probe. If two of them lead to one broker, the first one counts.
            unasked: those of the candidates that are not probed, if the last report has a result
                for them: that result stays.
            stop: ends the round early when it is set. The last report then stays.
            may_connect: tells whether a candidate may be connected to at an IP address.
        """
        refuse_to_wait_for(self._probing, "a search for brokers")
        with self._probing:
            return self._probe(candidates, unasked, stop, may_connect)

    def has_broker(self, address: Address, stop: threading.Event | None = None) -> bool:
        """Tell whether a program listens at an address. Leaves the `report` as it is.

        Args:
            address: whom to probe.
            stop: ends that early when it is set.
        """
        return address not in self.empty_places([address], stop)

    def empty_places(
        self, addresses: Iterable[Address], stop: threading.Event | None = None
    ) -> frozenset[Address]:
        """Those of some addresses at which no program answers. Leaves the `report` as it is.

        Args:
            addresses: whom to probe, all at the same time.
            stop: ends that early when it is set; those that had not ended are none.
        """
        rows = probe_all(
            tuple(addresses), self._login, tls=self._tls, limits=self._limits, stop=stop
        )
        return frozenset(row.address for row in rows if row.outcome.nothing_there)

    def _probe(
        self,
        candidates: Sequence[Address] | None = None,
        unasked: Collection[Address] = (),
        stop: threading.Event | None = None,
        may_connect: MayConnect | None = None,
    ) -> ScoutReport:
        started = time.monotonic()
        before = self._report
        if candidates is None:
            candidates = self._candidates()
        rows = {row.address: row for row in before or () if row.address in unasked}
        asked = [address for address in candidates if address not in rows]
        answers = probe_all(
            asked,
            self._login,
            tls=self._tls,
            limits=self._limits,
            stop=stop,
            may_connect=may_connect,
        )
        if stop is not None and stop.is_set():
            return before or ScoutReport(())
        rows.update((row.address, row) for row in answers)
        ordered = [rows[address] for address in dict.fromkeys(candidates)]
        report = ScoutReport(tuple(without_duplicates(ordered)), time.monotonic() - started)
        self._report = report
        # A round without any change is logged at DEBUG only: there is one every minute.
        news = before is None or before.counts() != report.counts()
        logger.log(
            logging.INFO if news else logging.DEBUG,
            "%d of %d candidates run a RabbitMQ that accepts our login (%.1f s)",
            len(report.connected),
            len(report),
            report.duration_s,
        )
        logger.debug("probed:\n%s", report)
        return report

    def _candidates(self) -> list[Address]:
        """Every candidate once, this node's own broker first."""
        named = self._named
        if named is None:
            named = _parse(self.lan.addresses, self._port)
        return list(dict.fromkeys([self._own(), *named]))

    def _own(self) -> Address:
        return parse_address(self._own_host or self.lan.this.address, self._port)

    def _others(self) -> list[Address]:
        own = self._own()
        return [row.address for row in self.report.connected if row.address != own]

    def _url(self, address: Address) -> AmqpUrl:
        return self._login.url(address, tls=self._tls is not None)


def _parse(addresses: Iterable[str], port: int) -> list[Address]:
    return [parse_address(address, port) for address in addresses]
