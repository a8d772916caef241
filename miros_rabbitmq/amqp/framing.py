"""The frames that events travel in, written and read past pika.

pika makes objects of each frame and asks several registries who waits for it. An event that goes
alone pays for three frames at its sender, three at its receiver and one for the confirm: more than
for its encryption. Here what is the same in all messages of a channel is made once, and what
arrives most is recognized by its first bytes. Everything else is left to pika, in its order.

The layouts are those of AMQP 0-9-1, 2.3.5 and 4.2 (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pika
import pika.channel
import pika.frame
import pika.spec

from .connection import END, FRAME, HEADER, write
from .sender_id import sender_id_of

_BODY_SIZE = slice(11, 19)
"""Where a marshalled content header has the size of the body (AMQP 0-9-1, 2.3.5.2): after the type,
channel and size of the frame, the class and the weight."""

_TAGGED = struct.Struct(">QBB")
"""A delivery tag, bits, and one octet more: how long the exchange's name is, or the frame's end."""

_ACK = struct.Struct(">BHII")
"""How a ``basic.ack`` begins: type, channel, size, method."""

_METHOD_FRAME, _HEADER_FRAME = pika.spec.FRAME_METHOD, pika.spec.FRAME_HEADER
_BODY_FRAME, _FRAME_END = pika.spec.FRAME_BODY, pika.spec.FRAME_END
_BASIC, _BASIC_ACK = pika.spec.Basic.INDEX, pika.spec.Basic.Ack.INDEX
_BASIC_DELIVER = struct.pack(">I", pika.spec.Basic.Deliver.INDEX)
_ACK_SIZE, _MULTIPLE = 13, 1


class Delivery(NamedTuple):
    """A message as the broker delivered it."""

    body: bytes
    routing_key: str
    sender_id: str | None
    redelivered: bool
    tag: int


class Deliveries:
    """``basic.deliver`` to one consumer, and ``basic.ack`` for them.

    Args:
        channel: an open channel.
        consumer_tag: the consumer's.
        on_delivery: called with each delivery.
    """

    def __init__(
        self,
        channel: pika.channel.Channel,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
    ) -> None:
        self._channel = channel
        number = self._number = channel.channel_number
        self._begin = struct.pack(">BH", _METHOD_FRAME, number)
        self._ack = _begin_of_ack(channel)
        tag = consumer_tag.encode()
        self._method = _BASIC_DELIVER + bytes((len(tag),)) + tag
        self._on_delivery = on_delivery

    def take(self, data: bytes) -> int:
        """Hand over the whole deliveries at the begin of some data; how many bytes they have.

        What is amiss in the next is for pika to find.
        """
        at = 0
        while self._channel.is_open and data.startswith(self._begin, at):
            try:
                parsed = self._parse(data, at)
            except (struct.error, IndexError):
                break
            if parsed is None:
                break
            delivery, at = parsed
            self._on_delivery(delivery)
        return at

    def acknowledge(self, tag: int) -> None:
        """Acknowledge every delivery up to a tag, in one system call."""
        frame = self._ack + _TAGGED.pack(tag, _MULTIPLE, _FRAME_END)
        write(self._channel.connection, frame)

    def _parse(self, data: bytes, at: int) -> tuple[Delivery, int] | None:
        """The delivery that begins at a frame, and where it ends."""
        contents = at + FRAME.size
        if not data.startswith(self._method, contents):
            return None
        end = contents + FRAME.unpack_from(data, at)[2]
        fields = contents + len(self._method)
        tag, bits, exchange = _TAGGED.unpack_from(data, fields)
        key = fields + _TAGGED.size + exchange
        key_end = key + 1 + data[key]
        if key_end != end or data[end] != _FRAME_END:
            return None
        at = end + 1
        kind, channel, size, cls, _, body_size = HEADER.unpack_from(data, at)
        end = at + FRAME.size + size
        if (kind, channel, cls, data[end]) != (_HEADER_FRAME, self._number, _BASIC, _FRAME_END):
            return None
        properties = data[at + HEADER.size : end]
        at = end + 1
        fragments = []
        missing = body_size
        while missing > 0:
            kind, channel, size = FRAME.unpack_from(data, at)
            end = at + FRAME.size + size
            if (kind, channel, data[end]) != (_BODY_FRAME, self._number, _FRAME_END):
                return None
            fragments.append(data[at + FRAME.size : end])
            missing -= size
            at = end + 1
        if missing:
            return None
        body = fragments[0] if len(fragments) == 1 else b"".join(fragments)
        routing_key = data[key + 1 : key_end].decode(errors="replace")
        return Delivery(body, routing_key, sender_id_of(properties), bool(bits & 1), tag), at


def _begin_of_ack(channel: pika.channel.Channel) -> bytes:
    return _ACK.pack(_METHOD_FRAME, channel.channel_number, _ACK_SIZE, _BASIC_ACK)


class Confirms:
    """``basic.ack`` of a broker that confirms what is published.

    Args:
        channel: an open channel.
        on_confirm: called with the delivery tag of each, and whether it stands for all up to it.
    """

    def __init__(
        self, channel: pika.channel.Channel, on_confirm: Callable[[int, bool], object]
    ) -> None:
        self._channel = channel
        self._begin = _begin_of_ack(channel)
        self._on_confirm = on_confirm

    def take(self, data: bytes) -> int:
        """Hand over the whole confirms at the begin of some data; how many bytes they have."""
        at = 0
        size = _ACK.size + _TAGGED.size
        while (
            self._channel.is_open
            and data.startswith(self._begin, at)
            and data.startswith(END, at + size - 1)
        ):
            tag, bits, _ = _TAGGED.unpack_from(data, at + _ACK.size)
            at += size
            self._on_confirm(tag, bool(bits & _MULTIPLE))
        return at


class Publishing:
    """``basic.publish`` of one channel: frames that differ by the body alone are made once.

    All of it with the lock of the session's loop, or in its thread.

    Args:
        channel: an open channel.
        exchange: the exchange to publish to.
        routing_key: the routing key of every message.
        properties: those of every message.
        mandatory: have the broker return what no queue is bound for.
    """

    def __init__(
        self,
        channel: pika.channel.Channel,
        exchange: str,
        routing_key: str,
        properties: pika.BasicProperties,
        *,
        mandatory: bool,
    ) -> None:
        number = self._number = channel.channel_number
        method = pika.spec.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )
        header = pika.frame.Header(number, 0, properties).marshal()
        self._head = pika.frame.Method(number, method).marshal() + header[: _BODY_SIZE.start]
        self._tail = header[_BODY_SIZE.stop :]
        self._connection: Any = channel.connection
        overhead = pika.spec.FRAME_HEADER_SIZE + pika.spec.FRAME_END_SIZE
        self._largest = self._connection.params.frame_max - overhead

    def publish(self, body: bytes) -> bool:
        """Write one message, as much of it as the socket takes now; pika writes the rest.

        Returns:
            whether the socket took all of it. Where it did not, and this is not the thread of the
            loop, that has to be woken.
        """
        size = len(body)
        parts = [self._head, size.to_bytes(8, "big"), self._tail]
        for at in range(0, size, self._largest):
            fragment = body[at : at + self._largest]
            parts += FRAME.pack(_BODY_FRAME, self._number, len(fragment)), fragment, END
        return write(self._connection, b"".join(parts))
