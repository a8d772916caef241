"""What is known of the network devices of this machine, besides their addresses, and of its routes.

On Linux, ``/sys/class/net`` tells whether a device is up and has a link, and what kind it is;
``/proc/net/route`` has the routes. Everybody may read both. Elsewhere nothing is known but a
device's name and the default route, of which ``netifaces`` tells. Nothing is sent.
"""

from __future__ import annotations

import enum
import logging
import re
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from ..resources import shortage

logger: logging.Logger = logging.getLogger(__name__)

SYS_CLASS_NET = Path("/sys/class/net")
"""A folder for each device of this machine's network namespace."""

PROC_ROUTE = Path("/proc/net/route")
"""The main table of IPv4 routes."""


class LinkState(enum.Enum):
    """Whether a device can carry anything at present."""

    WORKS = "has a link"
    NO_LINK = "has no link"
    """It is up, but no cable is plugged in, or no radio network joined."""
    DOWN = "is down"
    """It is switched off: not even this machine reaches itself by its addresses."""
    UNKNOWN = "may have a link"


class Reach(enum.Enum):
    """What kind of network a device leads to, the likeliest LAN first."""

    LAN = "a network outside of this machine"
    TUNNEL = "a tunnel or a modem"
    """A VPN, PPP or a mobile network: other hosts are not on a LAN with this machine."""
    INSIDE = "containers or virtual machines of this machine"


class Device(NamedTuple):
    """One network device. What is not known is `None`."""

    name: str
    link: LinkState = LinkState.UNKNOWN
    hardware: int | None = None
    """The kind of its link layer: ``ARPHRD_*`` of Linux's ``if_arp.h``."""
    kind: str = ""
    """``DEVTYPE`` of Linux, such as ``wlan``, ``bridge`` or ``wireguard``; empty for most."""
    is_tun: bool = False
    """A program made it (TUN or TAP)."""
    members: tuple[str, ...] | None = None
    """The devices that a bridge connects; `None` if this is no bridge."""

    @property
    def reach(self) -> Reach:
        """What kind of network it leads to."""
        if self.members is not None:
            outward = any(Device(name).reach is Reach.LAN for name in self.members)
            return Reach.LAN if outward else Reach.INSIDE
        if self.is_tun or self.hardware in _TUNNELS or self.kind in _TUNNEL_KINDS:
            return Reach.TUNNEL
        if _INSIDE_NAMES.match(self.name):
            return Reach.INSIDE
        return Reach.TUNNEL if _TUNNEL_NAMES.match(self.name) else Reach.LAN


_TUNNELS = frozenset({256, 512, 519, 768, 769, 776, 778, 65534})
"""SLIP, PPP, raw IP, IPIP, IPv6 tunnels, SIT, GRE; and "none", as TUN and WireGuard have it."""

_TUNNEL_KINDS = frozenset({"ppp", "wireguard", "wwan"})

_TUNNEL_NAMES = re.compile(
    r"(tun|tap|utun|wg|ppp|wwan|rmnet|tailscale|zt|nordlynx|ipsec|gpd|sit|gre|sl)[0-9]|nordlynx$|zt"
)

_INSIDE_NAMES = re.compile(
    r"docker|br-[0-9a-f]{12}$|veth|vnet|virbr|lxcbr|lxdbr|incusbr|podman|cni|cbr[0-9]|cali|flannel"
    r"|kube-|nodelocaldns|vboxnet|vmnet|vmenet|vEthernet|bridge1[0-9]{2}$|dummy|ifb|awdl|llw"
)
"""Of Docker, Podman, LXC, libvirt, Kubernetes, VirtualBox, VMware, Hyper-V and macOS. Where nothing
but names is known, bridges are among them."""


class Route(NamedTuple):
    """One IPv4 route."""

    device: str
    network: IPv4Network
    by_gateway: bool
    metric: int = 0
    """The lowest one is taken."""

    @property
    def is_default(self) -> bool:
        """Whether it is for everything that no other route is for.

        OpenVPN's two half routes, 0.0.0.0/1 and 128.0.0.0/1, are none of this kind.
        """
        return self.network.prefixlen == 0


_UP, _GATEWAY, _REJECT = 0x0001, 0x0002, 0x0200
"""Flags of a route (``RTF_*`` of Linux's ``route.h``)."""


def parse_proc_net_route(text: str) -> tuple[Route, ...]:
    """Parse the text of ``/proc/net/route``; lines in another format are skipped."""
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        try:
            flags = int(fields[3], 16)
            network = IPv4Network((_address(fields[1]), str(_address(fields[7]))), strict=False)
            metric = int(fields[6])
        except ValueError:
            continue
        if flags & _UP and not flags & _REJECT:
            routes.append(Route(fields[0], network, bool(flags & _GATEWAY), metric))
    return tuple(routes)


def _address(field: str) -> IPv4Address:
    """An address as the kernel prints it there: a number in the order of this machine's bytes."""
    return IPv4Address(int(field, 16).to_bytes(4, sys.byteorder))


def read_routes() -> tuple[Route, ...] | None:
    """Read this machine's routes as they are now; `None` where only netifaces knows some.

    Raises:
        OutOfResources: there is no file descriptor to read them with.
    """
    try:
        return parse_proc_net_route(PROC_ROUTE.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise short from error
        logger.debug("%s cannot be read: %s", PROC_ROUTE, error)
        return None


def read_devices(names: Iterable[str]) -> tuple[Device, ...]:
    """Read what is known of some devices at this moment. Takes some 0.1 ms a device on Linux.

    Raises:
        OutOfResources: there is no file descriptor to read it with.
    """
    return tuple(_read_device(name) for name in names)


_IFF_UP = 0x0001


def _read_device(name: str) -> Device:
    folder = SYS_CLASS_NET / name
    flags = _read(folder / "flags")
    if not flags:
        return Device(name)
    link = LinkState.WORKS
    if not int(flags, 16) & _IFF_UP:
        link = LinkState.DOWN
    # The second says no, too, while a radio network has not let this machine in.
    elif _read(folder / "carrier") == "0" or _read(folder / "operstate") not in ("up", "unknown"):
        link = LinkState.NO_LINK
    hardware = _read(folder / "type")
    kind = re.search(r"^DEVTYPE=(\w+)$", _read(folder / "uevent"), re.MULTILINE)
    try:
        members: tuple[str, ...] | None = tuple(one.name for one in (folder / "brif").iterdir())
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise short from error
        members = None
    return Device(
        name,
        link,
        int(hardware) if hardware.isdecimal() else None,
        kind[1] if kind else "",
        (folder / "tun_flags").exists(),
        members,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise short from error
        return ""  # there is no such device any more, or it is down and has no carrier to tell of
