"""The layout of what a record encrypts: who sends what and when, by its number, and the body.

All integers are big-endian::

    1   the kind: `envelope.Kind`, or `notice.NoticeKind` in a notice
    8   when it was sent: milliseconds since 1970, by the sender's clock
    8   the sequence number, from 1
    2   how many bytes the sender's name has
    n   the sender's name, UTF-8
    m   the body
    p   1 to 16 bytes that each have the value p, up to a multiple of 16 (RFC 5652, section 6.3)

So a receiver judges name, number and time before anything else looks at the body. The padding hides
how long a body is exactly.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..exceptions import MessageRejected, RejectReason
from ..foreign import on_one_line
from .envelope import MOST_NAME
from .message import BLOCK_BYTES

_FIXED = struct.Struct(">BQQH")
_PADDING = tuple(
    bytes((BLOCK_BYTES - excess,)) * (BLOCK_BYTES - excess) for excess in range(BLOCK_BYTES)
)
"""The padding, by how far the content exceeds a multiple of a block."""

MOST_SEQUENCE = 2**63 - 1


class Content(NamedTuple):
    """What a record encrypts."""

    kind: int
    sender: str
    sent_ms: int
    sequence: int
    body: bytes


def name_bytes(sender: str) -> bytes:
    """Return the bytes of a sender's name.

    Half of a surrogate pair, such as from a host's name that is not UTF-8, becomes a question mark:
    receivers could not print it.
    """
    return sender.encode("utf-8", "replace")


def padded_size(name: bytes, body: bytes) -> int:
    """Return how many bytes `pack` makes."""
    size = _FIXED.size + len(name) + len(body)
    return size - size % BLOCK_BYTES + BLOCK_BYTES


def pack(kind: int, name: bytes, sent_ms: int, sequence: int, body: bytes) -> bytes:
    """Return the padded bytes of a content."""
    plain = _FIXED.pack(kind, sent_ms, sequence, len(name)) + name + body
    return plain + _PADDING[len(plain) % BLOCK_BYTES]


def unpack(plain: bytes) -> Content:
    """Read what `pack` wrote.

    Raises:
        MessageRejected: it was not written by `pack`. As the bytes were authenticated, some node
            with the key has an error, or somebody has stolen the key.
    """
    padding = plain[-1] if plain else 0
    end = len(plain) - padding
    if not 0 < padding <= BLOCK_BYTES or plain[end:] != _PADDING[BLOCK_BYTES - padding]:
        raise MessageRejected(RejectReason.MALFORMED, "no valid padding")
    body_at = _FIXED.size
    if end < body_at:
        raise MessageRejected(RejectReason.MALFORMED, "it ends within the fixed fields")
    kind, sent_ms, sequence, name_size = _FIXED.unpack_from(plain)
    body_at += name_size
    if body_at > end:
        raise MessageRejected(RejectReason.MALFORMED, "it ends within the sender's name")
    try:
        sender = plain[_FIXED.size : body_at].decode()
    except UnicodeDecodeError:
        sender = ""
    if not 0 < len(sender) <= MOST_NAME:
        raise MessageRejected(RejectReason.MALFORMED, "no valid sender name")
    if not sender.isprintable():
        sender = on_one_line(sender)  # it goes into logs and onto terminals
    if not 0 < sequence <= MOST_SEQUENCE:
        raise MessageRejected(RejectReason.MALFORMED, "no valid sequence number")
    return Content(kind, sender, sent_ms, sequence, plain[body_at:end])
