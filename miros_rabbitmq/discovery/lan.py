"""LocalAreaNetwork: which IPv4 addresses are in use on this machine's local network.

Either the user names them, and then this module sends nothing at all, or it finds the working
interface (`interfaces`) and sweeps its network (`sweep`).
Whether a broker runs at an address is for `scout` to find out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from ipaddress import AddressValueError, IPv4Address

from ..exceptions import SettingsError
from ..urls import parse_address
from .interfaces import Interface, Interfaces, LinkKind, choose_interface, read_interfaces
from .sweep import sweep

logger = logging.getLogger(__name__)


class ThisHost:
    """This machine, as its neighbours see it.

    Args:
        find_address: finds its working address, without a sweep.
    """

    def __init__(self, find_address: Callable[[], str]) -> None:
        self._find_address = find_address

    @property
    def address(self) -> str:
        """This machine's working address: ``rabbit_host`` if given, else the interface's.

        Sweeps nothing.
        """
        return self._find_address()


class OtherHosts:
    """The other hosts on the network.

    Args:
        this: this machine.
        find_all: finds the addresses of all hosts, those of this machine included.
    """

    def __init__(self, this: ThisHost, find_all: Callable[[], list[str]]) -> None:
        self._this = this
        self._find_all = find_all

    @property
    def addresses(self) -> list[str]:
        """Their addresses. The first use sweeps, unless addresses were named."""
        this = self._this.address
        return [one for one in self._find_all() if parse_address(one).host != this]


class LocalAreaNetwork:
    """The hosts on the local network.

    ::

        lan = LocalAreaNetwork()
        print(lan.this.address, "and", lan.other.addresses)

    The constructor asks nobody; the first use of `addresses` sweeps the network, once, and
    takes up to two seconds for a /24, six for a /22. From any thread; others that want the
    addresses meanwhile wait for the same sweep. `sweep` looks again.

    With several interfaces, the one of the default route is the working one, or without such a
    route the first that is no loopback; ``interface`` names another. A point-to-point link has one
    other host, or none that is known; a machine with nothing but a loopback is alone.

    Attributes:
        this: this machine, with ``address``.
        other: the other hosts, with ``addresses``.

    Args:
        addresses: the hosts, each ``host`` or ``host:port``. Given, nothing is swept or sent.
        interface: the name of the interface to use, such as ``wlan0``.
        rabbit_host: the host of this node's own broker. An address of one of this machine's
            interfaces chooses that interface.

    Raises:
        SettingsError: an address is neither ``host`` nor ``host:port``. On first use: there is no
            such interface.
    """

    def __init__(
        self,
        addresses: Iterable[str] | None = None,
        *,
        interface: str | None = None,
        rabbit_host: str | None = None,
    ) -> None:
        if isinstance(addresses, str):
            raise SettingsError(f"addresses is a list of hosts, not the text {addresses!r}")
        self.this = ThisHost(self._this_address)
        self.other = OtherHosts(self.this, lambda: self.addresses)
        self._named = None if addresses is None else tuple(dict.fromkeys(addresses))
        for address in self._named or ():
            parse_address(address)
        self._rabbit_host = None if rabbit_host is None else parse_address(rabbit_host).host
        self._wanted = interface
        self._sweeping = threading.Lock()  # held for a sweep, so that two do not run at once
        self._found: tuple[str, ...] | None = None  # replaced as a whole; read without a lock
        self._warnings: set[str] = set()  # each is given once, however often it is swept

    def __repr__(self) -> str:
        known = self._named if self._named is not None else self._found
        return f"<LocalAreaNetwork: {'not swept yet' if known is None else list(known)}>"

    @property
    def addresses(self) -> list[str]:
        """The named addresses as they were given, or those of this machine and of all hosts found.

        The first use sweeps, unless addresses were named.
        """
        if self._named is not None:
            return list(self._named)
        found = self._found
        if found is None:
            with self._sweeping:
                # Another thread may have swept while this one waited for the lock.
                found = self._found if self._found is not None else self._sweep(None)
        return list(found)

    @property
    def interface(self) -> Interface:
        """The working interface, as it is configured now. Sends nothing."""
        return self._choose(read_interfaces())

    def sweep(self, stop: threading.Event | None = None) -> list[str]:
        """Look again which hosts there are, and return `addresses`.

        Where addresses were named, they are the answer, and nothing is sent.

        Args:
            stop: ends the sweep early when it is set.
        """
        if self._named is not None:
            return list(self._named)
        with self._sweeping:
            return list(self._sweep(stop))

    def _sweep(self, stop: threading.Event | None) -> tuple[str, ...]:
        interfaces = read_interfaces()
        working = self._choose(interfaces)
        if working.kind is not LinkKind.BROADCAST:
            place = f"interface {working.name}" if working.name else "no interface with an address"
            self._warn(
                f"{place} leads to {working.kind.value}, so no hosts are looked for; "
                "name the brokers with addresses="
            )
        result = sweep(working, stop=stop, warn=self._warn)
        this = [self._this_address(), working.address]
        if self._is_this_machine(this[0], interfaces):
            # The own broker's address stands for this machine: its others lead to the same broker.
            this.pop()
        others = [address for address in result.addresses if address not in this]
        found = tuple(dict.fromkeys([*this, *others]))
        news = found != self._found
        self._found = found
        logger.log(
            logging.INFO if news else logging.DEBUG,
            "%d other hosts on %s (%s), found in %.1f s",
            len(others),
            working.network,
            working.name or "no interface",
            result.duration_s,
        )
        return found

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            logger.warning("%s", text)

    def _choose(self, interfaces: Interfaces) -> Interface:
        return choose_interface(interfaces, self._wanted, self._rabbit_host)

    def _this_address(self) -> str:
        return self._rabbit_host if self._rabbit_host is not None else self.interface.address

    def _is_this_machine(self, host: str, interfaces: Interfaces) -> bool:
        if host == "localhost" or any(host == one.address for one in interfaces.all):
            return True
        try:
            return IPv4Address(host).is_loopback
        except AddressValueError:
            return False
