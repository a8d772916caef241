"""The layouts of the AMQP frames that events travel in, and the sender's id among the properties.

Pure: bytes and numbers. Source: AMQP 0-9-1, sections 2.3.5, 4.2 and 4.2.6
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import functools
import struct

import pika
import pika.spec

FRAME = struct.Struct(">BHI")
"""How a frame begins: its type, channel and size. One more octet comes after its contents."""

HEADER = struct.Struct(">BHIHHQ")
"""How a content header begins: the same, then its class, weight, and the size of the body."""

END = bytes((pika.spec.FRAME_END,))
"""The octet that ends every frame."""

_FLAGS = struct.Struct(">H")
_BEFORE_APP_ID = tuple(
    (getattr(pika.BasicProperties, f"FLAG_{name}"), width)
    for name, width in (
        ("CONTENT_TYPE", 0),
        ("CONTENT_ENCODING", 0),
        ("HEADERS", 4),
        ("DELIVERY_MODE", 1),
        ("PRIORITY", 1),
        ("CORRELATION_ID", 0),
        ("REPLY_TO", 0),
        ("EXPIRATION", 0),
        ("MESSAGE_ID", 0),
        ("TIMESTAMP", 8),
        ("TYPE", 0),
        ("USER_ID", 0),
    )
)
"""The properties before the ``app_id``, in order: the flag of each, and how many octets it has; 0
for a short string. For a table, these are the octets of its length."""

_USUAL_BYTES = 256
"""The properties of our own senders take less; only properties so small are remembered."""


def _read(properties: bytes) -> str | None:
    try:
        flags, at = _FLAGS.unpack_from(properties)[0], _FLAGS.size
        for flag, width in _BEFORE_APP_ID:
            if flags & flag:
                at += width or 1 + properties[at]
                if flag == pika.BasicProperties.FLAG_HEADERS:
                    at += int.from_bytes(properties[at - 4 : at], "big")  # skipped, not read
        if flags & pika.BasicProperties.FLAG_APP_ID:
            end = at + 1 + properties[at]
            return properties[at + 1 : end].decode()
    except (struct.error, IndexError, UnicodeDecodeError):
        pass  # not from a sender that we know
    return None


_recall = functools.lru_cache(maxsize=256)(_read)


def sender_id_of(properties: bytes) -> str | None:
    """The ``app_id`` of a content header, given what comes after the size of the body."""
    if len(properties) <= _USUAL_BYTES:
        return _recall(properties)
    return _read(properties)
