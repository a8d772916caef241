"""This machine's network interfaces, and which of them is the working one.

The choice is a pure function of a snapshot; the snapshot comes from ``netifaces``, which asks the
operating system and sends nothing.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

import netifaces

from ..exceptions import SettingsError

logger = logging.getLogger(__name__)


class LinkKind(enum.Enum):
    """What can be expected at the other end of an interface."""

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
    """The host at the other end of a point-to-point link, where it is known."""


NOWHERE = Interface("", "127.0.0.1", IPv4Network("127.0.0.0/8"), LinkKind.LOOPBACK)
"""Stands for the interface of a machine that has none with an IPv4 address."""


class Interfaces(NamedTuple):
    """What the operating system says of its interfaces."""

    all: tuple[Interface, ...]
    default: str | None
    """The name of the interface that the default route leads out of."""


def choose_interface(
    interfaces: Interfaces, wanted: str | None = None, address: str | None = None
) -> Interface:
    """Choose the interface whose network is swept and whose address is this machine's.

    In this order: the one that is ``wanted``; the one that has ``address`` and is no loopback;
    the one of the default route; the first that is no loopback; a loopback.

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
    """Return the IPv4 interfaces of this machine as they are now; sends nothing."""
    found = []
    for name in netifaces.interfaces():
        try:
            families = netifaces.ifaddresses(name)
        except (ValueError, OSError) as error:  # it went away between the two calls
            logger.debug("interface %s cannot be read: %s", name, error)
            continue
        for entry in families.get(netifaces.AF_INET, []):
            address, netmask, peer = (entry.get(key) for key in ("addr", "netmask", "peer"))
            interface = interface_of(name, address, netmask, peer)
            if interface is not None:
                found.append(interface)
    default = netifaces.gateways().get("default")
    gateway = default.get(netifaces.AF_INET) if isinstance(default, dict) else None
    return Interfaces(tuple(found), str(gateway[1]) if gateway else None)


def interface_of(
    name: str, address: str | None, netmask: str | None, peer: str | None = None
) -> Interface | None:
    """Build an :class:`Interface` from the texts that netifaces gives; None where they make none.

    The broadcast address that netifaces gives is left aside: it is wrong where the interface was
    configured without one. It follows from the network.
    """
    if not address:
        return None
    try:
        network = IPv4Interface(f"{address}/{netmask or '255.255.255.255'}").network
    except ValueError:
        return None
    if IPv4Address(address).is_loopback:
        return Interface(name, address, network, LinkKind.LOOPBACK)
    # netifaces names a peer for point-to-point links only (and for loopbacks), even if it has to
    # repeat the interface's own address for want of the other's. A network of two (RFC 3021) or
    # of one has no broadcast address, and leaves nothing to sweep.
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
    """Of the addresses of one interface: the one asked for, else the first on a network."""

    def rank(one: Interface) -> tuple[bool, bool]:
        return (one.address != address, one.kind is not LinkKind.BROADCAST)

    return min(candidates, key=rank)
