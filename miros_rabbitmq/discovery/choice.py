"""Which network interface leads to the LAN, and how sure that is.

Pure: a function of what `interfaces` and `devices` have read.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from ..exceptions import SettingsError
from .devices import Device, LinkState, Reach
from .interfaces import NOWHERE, Interface, Interfaces, LinkKind

PRIVATE_IPV4 = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
"""RFC 1918 and RFC 6598."""

_REACHES = list(Reach)

HOW_TO_CHOOSE = (
    'to choose, name an interface, such as interface="eth0", or this node\'s own broker with '
    "rabbit_host="
)


class Choice(NamedTuple):
    """The interface that was chosen."""

    interface: Interface
    remark: str = ""
    """Which others there were and why this one was taken, if that has to be said."""
    is_guess: bool = False
    """Whether the remark is a warning: nothing tells which of them leads to the LAN."""


def choose_interface(
    interfaces: Interfaces, wanted: str | None = None, address: str | None = None
) -> Choice:
    """Choose the interface whose network is swept, and whose address is this machine's.

    The interface that is ``wanted`` comes first, then the one that has ``address`` and is no
    loopback. Without these, all are compared that are up and no loopback. What is said first
    decides, and the next only between those that are equal so far:

    1. it leads to a network outside of this machine; then tunnels and modems; then containers and
       virtual machines of this machine, such as ``docker0`` (a bridge is told by its members);
    2. it has a link;
    3. its network has room for other hosts;
    4. its address is not one that the machine gave itself (169.254.0.0/16);
    5. it has a default route, of the lowest metric;
    6. it has a route through a gateway to a private network;
    7. its own network is a private one;
    8. the order in which the system reports them.

    If no interface is up but the loopback, the machine is alone: `NOWHERE`, or a loopback.

    Args:
        interfaces: those to choose from.
        wanted: the name of an interface. If it has no address at present, or is down, the machine
            is alone.
        address: an IPv4 address. If the interface has several addresses, this one is preferred.

    Raises:
        SettingsError: there is no interface of the wanted name.
    """
    if wanted is not None:
        return _named(interfaces, wanted, address)
    outward = [
        one
        for one in interfaces.all
        if one.kind is not LinkKind.LOOPBACK and interfaces.device(one).link is not LinkState.DOWN
    ]
    having = [one for one in outward if one.address == address]
    if having:
        return Choice(having[0])
    if not outward:
        return Choice(_alone(interfaces))
    ranked = sorted(outward, key=lambda one: _rank(one, interfaces))
    best = ranked[0]
    others = _other_networks(best, ranked)
    rivals = [one for one in others if _rank(one, interfaces)[:4] == _rank(best, interfaces)[:4]]
    why, is_guess = _doubt(best, interfaces), True
    if not why and rivals:
        routed = [one for one in (best, *rivals) if _default_metric(one, interfaces) is not None]
        is_guess = routed != [best]
        why = "it alone has a default route"
        if is_guess:
            how = "several have a default route" if routed else "none has a default route"
            why = f"{how}, so that this is a guess"
    if not why:
        return Choice(best)
    remark = f"the LAN is taken to be that of {_placed(best)}: {why}"
    if others:
        remark += f". There is also {_listed(others, interfaces)}"
    return Choice(best, f"{remark}; {HOW_TO_CHOOSE}", is_guess)


def _named(interfaces: Interfaces, wanted: str, address: str | None) -> Choice:
    named = [one for one in interfaces.all if wanted in (one.name, one.device)]
    name = named[0].device if named else wanted
    device = next((one for one in interfaces.devices if one.name == name), Device(name))
    if named and device.link is not LinkState.DOWN:
        return Choice(min(named, key=lambda one: (one.address != address, *_kind_rank(one))))
    if named or device in interfaces.devices:
        what = device.link.value if named else "has no IPv4 address"
        remark = f"the interface {wanted}, which interface= names, {what}: waiting for it"
        return Choice(_alone(interfaces), remark, is_guess=True)
    known = {one.name for one in interfaces.all} | {one.name for one in interfaces.devices}
    raise SettingsError(
        f"there is no interface {wanted!r}; interface= may name one of these: "
        f"{', '.join(sorted(known)) or 'none'}"
    )


def _alone(interfaces: Interfaces) -> Interface:
    """What stands for a machine that is on no network."""
    loopbacks = [one for one in interfaces.all if one.kind is LinkKind.LOOPBACK]
    return loopbacks[0] if loopbacks else NOWHERE


def _rank(one: Interface, interfaces: Interfaces) -> tuple[object, ...]:
    device = interfaces.device(one)
    metric = _default_metric(one, interfaces)
    to_private = any(
        route.device == one.device and route.by_gateway and _is_private(route.network)
        for route in interfaces.routes
    )
    return (
        _REACHES.index(device.reach),
        device.link is LinkState.NO_LINK,
        *_kind_rank(one),
        (metric is None, metric or 0),
        not to_private,
        not _is_private(one.network),
    )


def _kind_rank(one: Interface) -> tuple[bool, bool]:
    return (one.kind is not LinkKind.BROADCAST, IPv4Address(one.address).is_link_local)


def _default_metric(one: Interface, interfaces: Interfaces) -> int | None:
    routes = [r for r in interfaces.routes if r.device == one.device and r.is_default]
    return min((route.metric for route in routes), default=None)


def _is_private(network: IPv4Network) -> bool:
    return any(network.subnet_of(private) for private in PRIVATE_IPV4)


def _other_networks(best: Interface, all_: Sequence[Interface]) -> list[Interface]:
    """Those by which other hosts than those of the best one may be reached, the best ones first."""
    found: dict[str, Interface] = {}
    for one in all_:
        if one.device != best.device and not one.network.overlaps(best.network):
            found.setdefault(one.device, one)
    return list(found.values())


def _doubt(best: Interface, interfaces: Interfaces) -> str:
    """Why even the best one may lead to no LAN; empty if there is no such reason."""
    device = interfaces.device(best)
    if device.reach is not Reach.LAN:
        return f"it seems to lead to {device.reach.value}, but nothing better is there"
    if device.link is LinkState.NO_LINK:
        return "it has no link at present, but no other leads to a LAN"
    return ""


def _placed(one: Interface) -> str:
    return f"{one.name} ({one.address})"


def _listed(others: Sequence[Interface], interfaces: Interfaces) -> str:
    words = []
    for one in others:
        device = interfaces.device(one)
        facts = [device.link.value] if device.link is LinkState.NO_LINK else []
        if device.reach is not Reach.LAN:
            facts.append(f"leads to {device.reach.value}")
        words.append(f"{_placed(one)}{' which ' if facts else ''}{' and '.join(facts)}")
    return ", ".join(words)
