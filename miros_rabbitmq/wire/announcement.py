"""Announcements: how a node tells others which broker is its own, and that it listens.

An announcement is the body of a notice (`envelope.NOTICE`) on the mesh. A notice is encrypted and
authenticated like an event, is outside of the sequence of events, and never reaches a chart. The
first item of the body names its kind; a receiver ignores kinds that it does not know, as a newer
version may send them. A receiver takes nothing but an address from an announcement, and logs in
there with its own user and password. Every function here is pure and may be called from any thread.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Any

from ..exceptions import SettingsError
from ..urls import Address, parse_address

BROKER = "broker"
"""The kind of an announcement whose second item is the ``host:port`` of the sender's own broker."""

LISTENER = "listener"
"""The kind that a node sends to its own broker only. A chart that receives it there has a
neighbour: a chart that listens at the same broker. The second item says whether the sender wants an
answer."""

LISTENER_KEY = "miros.listener"
"""The routing key of `LISTENER`. Every mesh queue is bound with it, so neighbours learn of each
other whichever routing keys they use for events."""

_LONGEST_KIND = 32
_LONGEST_ADDRESS = 253 + 6
"""A DNS name, a colon, and a port."""


def announce_broker(address: Address) -> tuple[str, str]:
    """Return the body that says which broker is the sender's own."""
    return (BROKER, str(address))


def announce_listener(*, asks: bool) -> tuple[str, bool]:
    """Return the body that tells neighbours that this chart listens.

    Args:
        asks: whether each neighbour is to answer with the same, so that this chart learns of it.
    """
    return (LISTENER, asks)


def is_listener(body: Any) -> bool:
    """Tell whether an announcement comes from a neighbour."""
    return bool(body[0] == LISTENER)


def asks(body: Any) -> bool:
    """Tell whether the neighbour that sent an announcement wants an answer."""
    return len(body) > 1 and body[1] is True


def is_announcement(body: Any) -> bool:
    """Tell whether a body is an announcement, of a known kind or another."""
    return (
        type(body) in (tuple, list)
        and len(body) > 0
        and type(body[0]) is str
        and 0 < len(body[0]) <= _LONGEST_KIND
    )


def announced_broker(body: Any) -> Address | None:
    """Return the broker that an announcement names; `None` if it names none, or no usable one."""
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
