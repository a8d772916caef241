"""This machine's network interfaces, and which of them leads to the LAN.

The interfaces are read with ``netifaces``, which asks the operating system and sends nothing. The
choice among them is a pure function of what was read.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

import netifaces

from ..exceptions import SettingsError
from ..resources import naming_shortage, require_descriptors, shortage

logger = logging.getLogger(__name__)


class LinkKind(enum.Enum):
    """What an interface leads to."""

    BROADCAST = "a network of hosts"
    POINT_TO_POINT = "one other host, without ARP"
    LOOPBACK = "this machine alone"


class Interface(NamedTuple):
    """One IPv4 address of one interface."""

    name: str
    address: str
    network: IPv4Network
    kind: LinkKind
    peer: str | None = None
    """The host at the other end of a point-to-point link; `None` if that is unknown."""


NOWHERE = Interface("", "127.0.0.1", IPv4Network("127.0.0.0/8"), LinkKind.LOOPBACK)
"""What is used on a machine without any interface that has an IPv4 address."""


class Interfaces(NamedTuple):
    """The interfaces that the operating system reports."""

    all: tuple[Interface, ...]
    default: str | None
    """The name of the interface of the default route; `None` if there is no such route."""


def choose_interface(
    interfaces: Interfaces, wanted: str | None = None, address: str | None = None
) -> Interface:
    """Choose the interface whose network is swept, and whose address is this machine's.

    The first of these that exists is chosen: the interface that is ``wanted``; the one that has
    ``address`` and is no loopback; the one of the default route; the first that is no loopback; a
    loopback.

    Args:
        interfaces: those to choose from.
        wanted: the name of an interface.
        address: an IPv4 address. If the interface has several addresses, this one is preferred.

    Raises:
        SettingsError: the wanted interface does not exist or has no IPv4 address.
    """
    if wanted is not None:
        named = [one for one in interfaces.all if one.name == wanted]
        if not named:
            known = ", ".join(sorted({one.name for one in interfaces.all})) or "none"
            raise SettingsError(
                f"there is no interface {wanted!r} with an IPv4 address; there are: {known}"
            )
        return _preferred(named, address)
    outward = [one for one in interfaces.all if one.kind is not LinkKind.LOOPBACK]
    having = [one for one in outward if one.address == address]
    routed = [one for one in outward if one.name == interfaces.default]
    first = [one for one in outward if one.name == outward[0].name]
    for candidates in (having, routed, first, interfaces.all):
        if candidates:
            return _preferred(candidates, address)
    return NOWHERE


def read_interfaces() -> Interfaces:
    """Read this machine's IPv4 interfaces as they are now. Sends nothing. From any thread.

    Raises:
        OutOfResources: there are no file descriptors to ask the operating system with.
    """
    with naming_shortage():
        return _read_interfaces()


def _read_interfaces() -> Interfaces:
    found = []
    for name in netifaces.interfaces():
        try:
            families = netifaces.ifaddresses(name)
        except (ValueError, OSError) as error:  # it was removed between the two calls
            if shortage(error) is not None:
                raise
            logger.debug("interface %s cannot be read: %s", name, error)
            continue
        for entry in families.get(netifaces.AF_INET, []):
            address, netmask, peer = (entry.get(key) for key in ("addr", "netmask", "peer"))
            interface = interface_of(name, address, netmask, peer)
            if interface is not None:
                found.append(interface)
    default = netifaces.gateways().get("default")
    gateway = default.get(netifaces.AF_INET) if isinstance(default, dict) else None
    if gateway is None:
        # netifaces says that there is none, too, if it lacks the descriptors to ask.
        require_descriptors(2)
    return Interfaces(tuple(found), str(gateway[1]) if gateway else None)


def interface_of(
    name: str, address: str | None, netmask: str | None, peer: str | None = None
) -> Interface | None:
    """Make an `Interface` of the texts that netifaces returns; `None` if they are not usable.

    The broadcast address that netifaces returns is not used: it is wrong for an interface that was
    configured without one. The right one follows from the network.
    """
    if not address:
        return None
    try:
        network = IPv4Interface(f"{address}/{netmask or '255.255.255.255'}").network
    except ValueError:
        return None
    if IPv4Address(address).is_loopback:
        return Interface(name, address, network, LinkKind.LOOPBACK)
    # netifaces returns a peer for loopbacks and point-to-point links only. If it does not know the
    # peer of such a link, it returns the interface's own address. A network of one address or of
    # two (RFC 3021) has no broadcast address, and there is nothing to sweep.
    if peer:
        return Interface(
            name, address, network, LinkKind.POINT_TO_POINT, peer if peer != address else None
        )
    if network.prefixlen >= 31:
        others = [str(host) for host in network.hosts() if str(host) != address]
        return Interface(
            name, address, network, LinkKind.POINT_TO_POINT, others[0] if others else None
        )
    return Interface(name, address, network, LinkKind.BROADCAST)


def _preferred(candidates: Sequence[Interface], address: str | None) -> Interface:
    """Choose from the addresses of one interface: the given one, or else the first on a network."""

    def rank(one: Interface) -> tuple[bool, bool]:
        return (one.address != address, one.kind is not LinkKind.BROADCAST)

    return min(candidates, key=rank)
