"""Notices: how a node tells others which broker is its own, and that it listens.

A notice travels on the mesh, encrypted and numbered like an event, but with keys and numbers of its
own (`envelope.Purpose`), without a serializer, and it never reaches a chart. Its body has a fixed
layout for each kind; a receiver ignores kinds that it does not know, as a newer version may send
them. A receiver takes nothing but an address from a notice, and logs in there with its own user and
password. Every function here is pure and may be called from any thread.
"""

from __future__ import annotations

import enum
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from ..exceptions import SettingsError
from ..urls import Address, parse_address

LISTENER_KEY = "miros.listener"
"""The routing key of `NoticeKind.LISTENER`. Every mesh queue is bound with it, so neighbours learn
of each other whichever routing keys they use for events."""

_LONGEST_ADDRESS = 253 + 6
"""A DNS name, a colon, and a port."""

_ASKS, _TELLS = b"\1", b"\0"


class NoticeKind(enum.IntEnum):
    """What a notice says."""

    BROKER = 1
    """Which broker is the sender's own: its body is ``host:port``, in ASCII."""
    LISTENER = 2
    """That the sender listens; sent to its own broker only. A chart that receives it there has a
    neighbour: a chart that listens at the same broker. The body is one byte: 1 if the sender wants
    an answer, otherwise 0."""


class Notice(NamedTuple):
    """What one node tells the others."""

    kind: int
    body: bytes


def announce_broker(address: Address) -> Notice:
    """Return the notice that says which broker is the sender's own."""
    return Notice(NoticeKind.BROKER, str(address).encode())


def announce_listener(*, asks: bool) -> Notice:
    """Return the notice that tells neighbours that this chart listens.

    Args:
        asks: whether each neighbour is to answer with the same, so that this chart learns of it.
    """
    return Notice(NoticeKind.LISTENER, _ASKS if asks else _TELLS)


def is_listener(notice: Notice) -> bool:
    """Tell whether a notice comes from a neighbour."""
    return notice.kind == NoticeKind.LISTENER


def asks(notice: Notice) -> bool:
    """Tell whether the neighbour that sent a notice wants an answer."""
    return notice.body[:1] == _ASKS


def announced_broker(notice: Notice) -> Address | None:
    """Return the broker that a notice names; `None` if it names none, or no usable one."""
    if notice.kind != NoticeKind.BROKER or len(notice.body) > _LONGEST_ADDRESS:
        return None
    try:
        address = parse_address(notice.body.decode())
    except (SettingsError, UnicodeDecodeError):
        return None
    if not address.host.isprintable():
        return None
    try:
        ip = IPv4Address(address.host)
    except AddressValueError:
        return address
    return None if ip.is_unspecified or ip.is_multicast or ip.is_reserved else address
