"""Notices: what a node tells others of its broker, its numbers, their clocks and its chart.

A notice travels on the mesh, encrypted and numbered like an event, but with keys and numbers of its
own (`envelope.Purpose`), without a serializer, and it never reaches a chart. Its body has a fixed
layout for each kind; a receiver ignores kinds that it does not know, as a newer version may send
them. A receiver takes nothing but an address from a notice, and logs in there with its own user and
password; all else is only counted and logged. Every function here is pure and may be called from
any thread.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ..exceptions import SettingsError
from ..foreign import on_one_line
from ..host_names import ip_of
from ..urls import Address, parse_address
from .message import EPOCH_BYTES

LISTENER_KEY = "miros.listener"
"""The routing key of all notices but `NoticeKind.BROKER`. Every mesh queue is bound with it, so it
reaches charts whichever routing keys they use for events."""

_LONGEST_ADDRESS = 253 + 6
"""A DNS name, a colon, and a port."""

MOST_LEFT = 4
"""The most former addresses of a broker that a notice tells."""

_ASKS, _TELLS = b"\1", b"\0"

MOST_NUMBERS = 64
"""The most routing keys of which a notice tells the last number."""

_NUMBER = struct.Struct(">Q")
_CLOCK = struct.Struct(f">{EPOCH_BYTES}sq")
_TROUBLE = struct.Struct(">II")

_HIGHEST = 2**63 - 1
_MOST = 2**32 - 1
_LONGEST_TEXT = 255


class NoticeKind(enum.IntEnum):
    """What a notice says."""

    BROKER = 1
    """Which broker is the sender's own: its body is ``host:port``, in ASCII. Addresses at which the
    broker was before may follow, the latest first, each after a space."""
    LISTENER = 2
    """That the sender listens; sent to its own broker only. A chart that receives it there has a
    neighbour: a chart that listens at the same broker. The body is one byte: 1 if the sender wants
    an answer, otherwise 0. The pattern that it listens to may follow, and then the routing key of
    which it asks whether anybody listens to it."""
    NUMBERS = 3
    """What the sender has sent: for each of some routing keys, the number of its last event that
    this broker has confirmed, or that was given up for it."""
    CLOCK = 4
    """That the events of a sender are rejected, because its clock differs."""
    TROUBLE = 5
    """That the sender's chart is stuck or its queue nearly full, or that neither is so any more."""


class Notice(NamedTuple):
    """What one node tells the others."""

    kind: int
    body: bytes


def announce_broker(address: Address, left: Iterable[Address] = ()) -> Notice:
    """Return the notice that says which broker is the sender's own.

    Args:
        address: where the broker is.
        left: where it was before, and nobody reaches it any more; the latest first.
    """
    told = [address, *left][: 1 + MOST_LEFT]
    return Notice(NoticeKind.BROKER, " ".join(map(str, told)).encode())


def announce_listener(*, asks: bool, pattern: str = "", key: str = "") -> Notice:
    """Return the notice that tells neighbours that this chart listens.

    Args:
        asks: whether a neighbour is to answer with the same, so that this chart learns of it.
        pattern: the routing keys that it listens to; empty to leave that open.
        key: the routing key of which it asks whether anybody listens to it; empty for any.
    """
    body = _ASKS if asks else _TELLS
    if pattern or key:
        body += _text(pattern)
    if key:
        body += _text(key)
    return Notice(NoticeKind.LISTENER, body)


def announced_pattern(notice: Notice) -> str | None:
    """Return the pattern that a neighbour says it listens to; `None` if it does not say."""
    return _listener_texts(notice)[0] or None


def asked_key(notice: Notice) -> str:
    """Return the routing key of which a neighbour asks who listens to it; empty for any."""
    return _listener_texts(notice)[1]


def _listener_texts(notice: Notice) -> tuple[str, str]:
    """The pattern and the routing key in the notice of a neighbour; empty for what is not there."""
    body = notice.body
    pattern, end = _read_text(body, 1)
    key: str | None = ""
    if pattern is not None and end < len(body):
        key, end = _read_text(body, end)
    if not is_listener(notice) or pattern is None or key is None or end != len(body):
        return "", ""
    return pattern, key


def is_listener(notice: Notice) -> bool:
    """Tell whether a notice comes from a neighbour."""
    return notice.kind == NoticeKind.LISTENER


def asks(notice: Notice) -> bool:
    """Tell whether the neighbour that sent a notice wants an answer."""
    return notice.body[:1] == _ASKS


def announced_broker(notice: Notice) -> Address | None:
    """Return the broker that a notice names; `None` if it names none, or no usable one."""
    addresses = _addresses_in(notice)
    return addresses[0] if addresses else None


def left_addresses(notice: Notice) -> tuple[Address, ...]:
    """Return where the broker that a notice names was before; nothing that makes no sense."""
    return tuple(one for one in _addresses_in(notice)[1:] if one is not None)


def _addresses_in(notice: Notice) -> list[Address | None]:
    """What a notice names, `None` for what others cannot use; empty if it is of another kind."""
    if notice.kind != NoticeKind.BROKER:
        return []
    return [_usable_address(word) for word in notice.body.split(b" ", MOST_LEFT)]


def _usable_address(word: bytes) -> Address | None:
    if len(word) > _LONGEST_ADDRESS:
        return None
    try:
        text = word.decode("ascii")
        address = parse_address(text)
    except (SettingsError, UnicodeDecodeError):
        return None
    if text not in (str(address), address.host):
        return None  # nodes write a host in one way; another is to get past somebody who compares
    ip = ip_of(address.host)
    if ip is None:
        return address
    if ip.version == 6 and ip.is_link_local:
        return None  # its interface is one of the sender's machine
    return None if ip.is_unspecified or ip.is_multicast or _is_reserved(ip) else address


def _is_reserved(ip: IPv4Address | IPv6Address) -> bool:
    # Of IPv6, Python counts more as reserved: also the loopback address, and NAT64.
    return ip.version == 4 and ip.is_reserved


def tell_numbers(numbers: Iterable[tuple[str, int]]) -> Notice:
    """Return the notice that tells the last number by each routing key, for `MOST_NUMBERS`."""
    body = b"".join(
        _text(routing_key) + _NUMBER.pack(last)
        for routing_key, last in list(numbers)[:MOST_NUMBERS]
    )
    return Notice(NoticeKind.NUMBERS, body)


def told_numbers(notice: Notice) -> list[tuple[str, int]]:
    """Return the routing keys and last numbers that a notice tells; none if it makes no sense."""
    if notice.kind != NoticeKind.NUMBERS:
        return []
    numbers: list[tuple[str, int]] = []
    body, at = notice.body, 0
    while at < len(body):
        routing_key, at = _read_text(body, at)
        end = at + _NUMBER.size
        if routing_key is None or end > len(body) or len(numbers) == MOST_NUMBERS:
            return []
        (last,) = _NUMBER.unpack_from(body, at)
        if not 0 < last <= _HIGHEST:
            return []
        numbers.append((routing_key, last))
        at = end
    return numbers


class WrongClock(NamedTuple):
    """Whose clock differs from that of a receiver, and by how much."""

    epoch: bytes
    """The start of the sender whose events are rejected."""
    ahead_ms: int
    """By how many ms its clock is ahead of the receiver's; below 0 if it is behind, or if its
    events were under way for so long."""


def tell_clock(wrong: WrongClock) -> Notice:
    """Return the notice that tells a sender that its clock differs."""
    ahead_ms = max(-_HIGHEST, min(_HIGHEST, wrong.ahead_ms))
    return Notice(NoticeKind.CLOCK, _CLOCK.pack(wrong.epoch, ahead_ms))


def told_clock(notice: Notice) -> WrongClock | None:
    """Return what a notice says of a clock; `None` if it says nothing of any."""
    if notice.kind != NoticeKind.CLOCK or len(notice.body) != _CLOCK.size:
        return None
    return WrongClock(*_CLOCK.unpack(notice.body))


class Trouble(NamedTuple):
    """A chart that does not return from a handler, or whose queue is nearly full."""

    chart: str
    state: str
    """The state whose handler it is in; empty if it is in none, or that is not known."""
    seconds: int
    """For how long it has taken no events; 0 if only its queue is nearly full."""
    depth: int
    """How many events wait in the queue for it. If this and ``seconds`` are 0, it is well again."""


def tell_trouble(trouble: Trouble) -> Notice:
    """Return the notice that tells others that this node's chart is stuck.

    Names are cut to 255 bytes, and what could do more than be read becomes a space.
    """
    numbers = (max(0, min(_MOST, number)) for number in (trouble.seconds, trouble.depth))
    names = (_text(on_one_line(name)) for name in (trouble.chart, trouble.state))
    return Notice(NoticeKind.TROUBLE, _TROUBLE.pack(*numbers) + b"".join(names))


def told_trouble(notice: Notice) -> Trouble | None:
    """Return what a notice says of a stuck chart; `None` if it says nothing of any, or nonsense."""
    body = notice.body
    if notice.kind != NoticeKind.TROUBLE or len(body) < _TROUBLE.size:
        return None
    seconds, depth = _TROUBLE.unpack_from(body)
    chart, at = _read_text(body, _TROUBLE.size)
    state, end = _read_text(body, at)
    if chart is None or state is None or end != len(body):
        return None
    if (chart, state) != (on_one_line(chart), on_one_line(state)):
        return None
    return Trouble(chart, state, seconds, depth)


def _text(text: str) -> bytes:
    """The bytes of a text: its length in one byte, and up to 255 bytes of whole characters."""
    data = text.encode()[:_LONGEST_TEXT].decode(errors="ignore").encode()
    return bytes((len(data),)) + data


def _read_text(body: bytes, at: int) -> tuple[str | None, int]:
    """Read a text, and say where it ends; `None` if there is none."""
    if at >= len(body):
        return None, at
    end = at + 1 + body[at]
    if end > len(body):
        return None, end
    try:
        return body[at + 1 : end].decode(), end
    except UnicodeDecodeError:
        return None, end
