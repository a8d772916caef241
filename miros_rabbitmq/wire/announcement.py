"""What a node tells others of itself, so that one that was not known can be: its own broker.

Pure: no I/O. An announcement is the body of a notice (`codec.NOTICE`) on the
mesh: encrypted and authenticated like an event, outside of its sequence, never seen by a chart. The
first item names its kind; a kind that is not known here comes from a newer version and means
nothing. Only an address is ever taken from one: user and password are the receiver's own.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Any

from ..exceptions import SettingsError
from ..urls import Address, parse_address

BROKER = "broker"
"""The kind of an announcement whose second item is the ``host:port`` of the sender's own broker."""

LISTENER = "listener"
"""The kind that is sent to the sender's own broker alone: whoever gets one there has a neighbour, a
chart that listens at the same broker. The second item tells whether it wants an answer."""

LISTENER_KEY = "miros.listener"
"""The routing key of these, which every mesh queue is bound with: neighbours need to know of each
other, whatever they tell each other."""

_LONGEST_KIND = 32
_LONGEST_ADDRESS = 253 + 6
"""A name of the DNS, a colon, and a port."""


def announce_broker(address: Address) -> tuple[str, str]:
    """The body that tells which broker is the sender's own."""
    return (BROKER, str(address))


def announce_listener(*, asks: bool) -> tuple[str, bool]:
    """The body that tells neighbours of this chart, and asks who else is there."""
    return (LISTENER, asks)


def is_listener(body: Any) -> bool:
    """Tell whether an announcement is that of a neighbour."""
    return bool(body[0] == LISTENER)


def asks(body: Any) -> bool:
    """Tell whether a neighbour wants an answer."""
    return len(body) > 1 and body[1] is True


def is_announcement(body: Any) -> bool:
    """Tell whether a body is an announcement, of whatever kind."""
    return (
        type(body) in (tuple, list)
        and len(body) > 0
        and type(body[0]) is str
        and 0 < len(body[0]) <= _LONGEST_KIND
    )


def announced_broker(body: Any) -> Address | None:
    """The broker that an announcement names; `None` where it names none that can be one."""
    if body[0] != BROKER or len(body) < 2 or type(body[1]) is not str:
        return None
    if len(body[1]) > _LONGEST_ADDRESS:
        return None
    try:
        address = parse_address(body[1])
    except SettingsError:
        return None
    if not address.host.isprintable():
        return None
    try:
        ip = IPv4Address(address.host)
    except AddressValueError:
        return address
    return None if ip.is_unspecified or ip.is_multicast or ip.is_reserved else address


def is_loopback(host: str) -> bool:
    """Tell whether a host is the machine itself, for whoever says so."""
    try:
        return IPv4Address(host).is_loopback
    except AddressValueError:
        return host.lower() == "localhost"
