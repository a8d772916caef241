"""LocalAreaNetwork: which IPv4 addresses are in use on this machine's local network.

If the user names the addresses, this module sends nothing at all. Otherwise it chooses the network
interface (`interfaces`) and sweeps its network (`sweep`). Whether a broker runs at an address is
for `scout` to find out.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, NoReturn

from ..exceptions import SettingsError
from ..host_names import is_loopback
from ..interruption import refuse_to_wait_for
from ..older import LAN, say_what_is_gone
from ..urls import address_texts, parse_address
from .choice import choose_interface
from .devices import LinkState
from .interfaces import Interface, Interfaces, LinkKind, read_interfaces
from .own_address import Here
from .sweep import sweep

logger: logging.Logger = logging.getLogger(__name__)

_remarks: set[str] = set()
"""What was said of the choice of the interface: once in a process, for all its charts."""

_MOST_REMARKS = 100
"""An interface that comes and goes makes few different ones."""


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
        """Their addresses. The first use sweeps, unless addresses were given."""
        this = self._this.address
        return [one for one in self._find_all() if parse_address(one).host != this]


class LocalAreaNetwork:
    """The hosts on the local network.

    ::

        lan = LocalAreaNetwork()
        print(lan.this.address, "and", lan.other.addresses)

    The constructor sends nothing. The first use of `addresses` sweeps the network, which takes up
    to two seconds for a /24 and six for a /22; later uses return what was found. `sweep` looks
    again. All of it may be used from any thread: threads that ask for the addresses during the
    first sweep wait for it.

    If the machine has several interfaces, the one that most likely leads to a LAN is used, with a
    warning where that is a guess; ``interface`` names another. At the end of a point-to-point
    link there is one host, which may be unknown. A machine that has only a loopback is alone.

    Attributes:
        this: this machine, with ``address``.
        other: the other hosts, with ``addresses``.

    Args:
        addresses: the hosts, each ``host`` or ``host:port``. If they are given, nothing is sent.
        interface: the name of the interface to use, such as ``wlan0``.
        rabbit_host: the host of this node's own broker. If it is the address of one of this
            machine's interfaces, that interface is used.

    Raises:
        SettingsError: an address is neither ``host`` nor ``host:port``. Raised by the first use,
            and not here: there is no such interface.
    """

    def __init__(
        self,
        addresses: Iterable[str] | None = None,
        *,
        interface: str | None = None,
        rabbit_host: str | None = None,
    ) -> None:
        self.this: ThisHost = ThisHost(self._this_address)
        self.other: OtherHosts = OtherHosts(self.this, lambda: self.addresses)
        self._named = None if addresses is None else address_texts(addresses)
        self._rabbit_host = None if rabbit_host is None else parse_address(rabbit_host).host
        self._wanted = interface
        self._sweeping = threading.Lock()  # held for a sweep, so that two do not run at once
        self._found: tuple[str, ...] | None = None  # replaced as a whole; read without a lock
        self._warnings: set[str] = set()  # each is given once, however often it is swept

    def __repr__(self) -> str:
        known = self._named if self._named is not None else self._found
        return f"<LocalAreaNetwork: {'not swept yet' if known is None else list(known)}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            say_what_is_gone("LocalAreaNetwork", name, LAN)

    @property
    def addresses(self) -> list[str]:
        """The addresses that were given; or else this machine's, and those of the hosts found.

        This machine's is that of now, and the others are those of the last sweep. The first use
        sweeps, unless addresses were given.
        """
        if self._named is not None:
            return list(self._named)
        found = self._found
        if found is None:
            refuse_to_wait_for(self._sweeping, "a search for hosts")
            with self._sweeping:
                # Another thread may have swept while this one waited for the lock.
                found = self._found if self._found is not None else self._sweep(None)
        if self._rabbit_host is None:
            with contextlib.suppress(SettingsError):  # the named interface is not there any more
                this = self._this_address()
                return [this, *(address for address in found[1:] if address != this)]
        return list(found)

    @property
    def interface(self) -> Interface:
        """The interface that leads to the LAN, as it is configured now. Sends nothing.

        Raises:
            SettingsError: there is no interface of the given name.
        """
        return self._choose(read_interfaces())

    def here(self) -> Here:
        """Tell where this machine is now. Sends nothing.

        Raises:
            SettingsError: there is no interface of the given name.
        """
        interfaces = read_interfaces()
        up = [one for one in interfaces.all if interfaces.device(one).link is not LinkState.DOWN]
        return Here(self._choose(interfaces), frozenset(one.address for one in up))

    def networks(self) -> tuple[IPv4Network, ...]:
        """The networks of all interfaces of this machine, but the loopback. Sends nothing."""
        others = (one for one in read_interfaces().all if one.kind is not LinkKind.LOOPBACK)
        return tuple(dict.fromkeys(one.network for one in others))

    def sweep(self, stop: threading.Event | None = None) -> list[str]:
        """Look again which hosts there are, and return `addresses`.

        If addresses were given, returns these and sends nothing.

        Args:
            stop: ends the sweep early when it is set.

        Raises:
            SettingsError: there is no interface of the given name.
        """
        if self._named is not None:
            return list(self._named)
        refuse_to_wait_for(self._sweeping, "a search for hosts")
        with self._sweeping:
            return list(self._sweep(stop))

    def _sweep(self, stop: threading.Event | None) -> tuple[str, ...]:
        interfaces = read_interfaces()
        working = self._choose(interfaces)
        is_waiting = self._wanted is not None and working.kind is LinkKind.LOOPBACK
        if working.kind is not LinkKind.BROADCAST and not is_waiting:  # of which was told
            place = f"interface {working.name}" if working.name else "no interface with an address"
            self._warn(
                f"{place} leads to {working.kind.value}, so no hosts are looked for; name the "
                "brokers with addresses=, or another interface with interface="
            )
        result = sweep(working, stop=stop, warn=self._warn)
        this = [self._this_address(), working.address]
        if self._is_this_machine(this[0], interfaces):
            # The own broker's address stands for this machine: the other addresses of the machine
            # lead to the same broker.
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
        choice = choose_interface(interfaces, self._wanted, self._rabbit_host)
        if choice.remark and choice.remark not in _remarks:
            if len(_remarks) >= _MOST_REMARKS:
                _remarks.clear()
            _remarks.add(choice.remark)
            logger.log(logging.WARNING if choice.is_guess else logging.INFO, "%s", choice.remark)
        return choice.interface

    def _this_address(self) -> str:
        return self._rabbit_host if self._rabbit_host is not None else self.interface.address

    def _is_this_machine(self, host: str, interfaces: Interfaces) -> bool:
        return is_loopback(host) or any(host == one.address for one in interfaces.all)
