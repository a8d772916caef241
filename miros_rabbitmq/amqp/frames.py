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

END = bytes((pika.spec.FRAME_END,))
"""The octet that ends every frame."""
