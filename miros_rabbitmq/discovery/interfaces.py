"""This machine's network interfaces: one for each IPv4 address.

They are read with ``netifaces``, which asks the operating system and sends nothing. Which of them
leads to the LAN is for `choice`.
"""

from __future__ import annotations

import enum
import logging
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

import netifaces

from ..resources import naming_shortage, require_descriptors, shortage
from .devices import Device, Route, read_devices, read_routes

logger: logging.Logger = logging.getLogger(__name__)


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

    @property
    def device(self) -> str:
        """The name of the network device: ``eth0`` if the address has the label ``eth0:1``."""
        return self.name.partition(":")[0]


NOWHERE = Interface("", "127.0.0.1", IPv4Network("127.0.0.0/8"), LinkKind.LOOPBACK)
"""What is used on a machine without any interface that has an IPv4 address."""


class Interfaces(NamedTuple):
    """What the operating system reports of its interfaces."""

    all: tuple[Interface, ...]
    """One for each IPv4 address."""

    routes: tuple[Route, ...] = ()

    devices: tuple[Device, ...] = ()
    """All network devices, those without an address, too."""

    def device(self, interface: Interface) -> Device:
        """What is known of the device of an interface."""
        for device in self.devices:
            if device.name == interface.device:
                return device
        return Device(interface.device)


def read_interfaces() -> Interfaces:
    """Read this machine's IPv4 interfaces as they are now. Sends nothing. From any thread.

    Raises:
        OutOfResources: there are no file descriptors to ask the operating system with.
    """
    with naming_shortage():
        return _read_interfaces()


def _read_interfaces() -> Interfaces:
    found = []
    names = netifaces.interfaces()
    for name in names:
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
    routes = read_routes()
    if routes is None:
        routes = _default_routes()
    devices = read_devices(dict.fromkeys(one.device for one in found))
    read = {device.name for device in devices}
    # A machine with many containers has many without an address: of these, the name is enough.
    others = tuple(Device(name) for name in names if name.partition(":")[0] not in read)
    return Interfaces(tuple(found), routes, (*devices, *others))


def _default_routes() -> tuple[Route, ...]:
    """The default routes, as netifaces tells them; the system's first choice comes first."""
    default = netifaces.gateways().get("default")
    gateway = default.get(netifaces.AF_INET) if isinstance(default, dict) else None
    if gateway is None:
        # netifaces says that there is none, too, if it lacks the descriptors to ask.
        require_descriptors(2)
        return ()
    return (Route(str(gateway[1]), IPv4Network("0.0.0.0/0"), True),)


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
