"""The layouts of the AMQP frames that events travel in.

Pure: bytes and numbers. Source: AMQP 0-9-1, sections 2.3.5 and 4.2
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import struct

import pika.spec

FRAME = struct.Struct(">BHI")
"""How a frame begins: its type, channel and size. One more octet comes after its contents."""

HEADER = struct.Struct(">BHIHHQ")
"""How a content header begins: the same, then its class, weight, and the size of the body."""

METHOD = struct.Struct(">I")
"""What a method begins with: the numbers of its class and of itself."""

TAGGED = struct.Struct(">QBB")
"""A delivery tag, bits, and one octet more: how long the exchange's name is, or the frame's end."""

END = bytes((pika.spec.FRAME_END,))
"""The octet that ends every frame."""

OVERHEAD = FRAME.size + len(END)
"""The bytes of a frame around its contents."""

TYPES = frozenset(
    (
        pika.spec.FRAME_METHOD,
        pika.spec.FRAME_HEADER,
        pika.spec.FRAME_BODY,
        pika.spec.FRAME_HEARTBEAT,
    )
)
"""All types of frames that there are."""

_NO_PROPERTIES = bytes(2) + END

LEAST_HEADER = HEADER.size - FRAME.size + len(_NO_PROPERTIES) - len(END)
"""The size of what a content header contains that has no properties."""


def header_size(frame: bytes) -> int:
    """The size of the body that a whole content header announces; -1 if it is not a proper one."""
    if len(frame) < LEAST_HEADER + OVERHEAD:
        return -1
    _, _, _, cls, _, body_size = HEADER.unpack_from(frame)
    return int(body_size) if cls == pika.spec.Basic.INDEX else -1


def bare_header(channel: int, body_size: int) -> bytes:
    """A content header without properties, as none are used.

    pika would decode the header table, in which a peer can put values for which pika raises (a time
    beyond the year 9999, deeply nested tables). The broker would deliver that message again and
    again.
    """
    begin = HEADER.pack(
        pika.spec.FRAME_HEADER, channel, LEAST_HEADER, pika.spec.Basic.INDEX, 0, body_size
    )
    return begin + _NO_PROPERTIES


def body_frame(channel: int, fragment: bytes) -> bytes:
    """A part of a body as a frame."""
    return FRAME.pack(pika.spec.FRAME_BODY, channel, len(fragment)) + fragment + END
