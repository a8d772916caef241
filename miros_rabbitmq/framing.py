"""The frames that events travel in, written and read past pika.

pika makes objects of each frame and asks several registries who waits for it. An event that goes
alone pays for three frames at its sender, three at its receiver and one for the confirm: more than
for its encryption. Here what is the same in all messages of a channel is made once, and what
arrives most is recognized by its first bytes. Everything else is left to pika, in its order.

The layouts are those of AMQP 0-9-1, 2.3.5 and 4.2 (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pika
import pika.channel
import pika.frame
import pika.spec

_RECEIVE_BYTES = 64 * 1024
"""Read from a socket at once. pika's 4 KiB make some dozen calls of one message, and at each of
them a busy chart may take the interpreter for a while."""

_BODY_SIZE = slice(11, 19)
"""Where a marshalled content header has the size of the body (AMQP 0-9-1, 2.3.5.2): after the type,
channel and size of the frame, the class and the weight."""

_FRAME = struct.Struct(">BHI")
"""How a frame begins: its type, channel and size. One more octet comes after its contents."""

_HEADER = struct.Struct(">BHIHHQ")
"""How a content header begins: the same, then its class, weight, and the size of the body."""

_TAGGED = struct.Struct(">QBB")
"""A delivery tag, bits, and one octet more: how long the exchange's name is, or the frame's end."""

_ACK = struct.Struct(">BHII")
"""How a ``basic.ack`` begins: type, channel, size, method."""

_METHOD_FRAME, _HEADER_FRAME = pika.spec.FRAME_METHOD, pika.spec.FRAME_HEADER
_BODY_FRAME, _FRAME_END = pika.spec.FRAME_BODY, pika.spec.FRAME_END
_END = bytes((_FRAME_END,))
_HEADER_BEGIN = bytes((_HEADER_FRAME,))
_BASIC, _BASIC_ACK = pika.spec.Basic.INDEX, pika.spec.Basic.Ack.INDEX
_BASIC_DELIVER = struct.pack(">I", pika.spec.Basic.Deliver.INDEX)
_ACK_SIZE, _MULTIPLE = 13, 1

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
"""The properties that come before the ``app_id``, in their order: a flag, and how many octets it
has; 0 for a short string. Of a table these are its length."""

_USUAL_BYTES = 256
"""Properties of a sender of ours take less; only those so small are remembered."""


class Connection(pika.SelectConnection):  # type: ignore[misc]  # pika has no type hints
    """pika's connection, with a shortcut for what arrives most."""

    shortcut: Callable[[bytes], int] | None = None
    """Called with what has arrived, where it begins with a frame; takes whole frames from its
    begin, as far as it knows them, and tells how many bytes that were. After a part of a frame pika
    has its turn, until what it has read ends with a frame again."""

    def _on_data_available(self, data_in: bytes) -> None:
        if self.shortcut is not None and not self._frame_buffer:
            taken = self.shortcut(data_in)
            self.bytes_received += taken
            if taken == len(data_in) or self.is_closed:
                return
            data_in = data_in[taken:]
        super()._on_data_available(data_in)

    def _read_frame(self) -> tuple[int, Any]:
        """Read the next frame; of a content header, no more than the properties that are used.

        pika decodes the header table too, where a peer can put what pika raises at (a time beyond
        the year 9999, tables deep within tables). The broker would deliver that message again and
        again.
        """
        data = self._frame_buffer
        if data[:1] == _HEADER_BEGIN and len(data) > _FRAME.size:
            _, channel, size = _FRAME.unpack_from(data)
            end = _FRAME.size + size
            if size >= _HEADER.size - _FRAME.size and data[end : end + 1] == _END:
                body_size = _HEADER.unpack_from(data)[-1]
                properties = pika.BasicProperties(app_id=_sender_id(data[_HEADER.size : end]))
                return end + 1, pika.frame.Header(channel, body_size, properties)
        return super()._read_frame()  # type: ignore[no-any-return]


def tune_reading(connection: Any) -> None:
    """Have a new connection read as much as a whole batch in one call, and call once at a time.

    pika itself calls again until there is nothing, which costs an exception each time. Of TLS there
    may be something left that no poller tells of.
    """
    with contextlib.suppress(AttributeError):  # pika has no public way
        transport = connection._transport
        transport._MAX_RECV_BYTES = _RECEIVE_BYTES
        if not isinstance(transport._sock, ssl.SSLSocket):
            transport._MAX_CONSUME_BYTES = 1


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
        contents = at + _FRAME.size
        if not data.startswith(self._method, contents):
            return None
        end = contents + _FRAME.unpack_from(data, at)[2]
        fields = contents + len(self._method)
        tag, bits, exchange = _TAGGED.unpack_from(data, fields)
        key = fields + _TAGGED.size + exchange
        key_end = key + 1 + data[key]
        if key_end != end or data[end] != _FRAME_END:
            return None
        at = end + 1
        kind, channel, size, cls, _, body_size = _HEADER.unpack_from(data, at)
        end = at + _FRAME.size + size
        if (kind, channel, cls, data[end]) != (_HEADER_FRAME, self._number, _BASIC, _FRAME_END):
            return None
        properties = data[at + _HEADER.size : end]
        at = end + 1
        fragments = []
        missing = body_size
        while missing > 0:
            kind, channel, size = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + size
            if (kind, channel, data[end]) != (_BODY_FRAME, self._number, _FRAME_END):
                return None
            fragments.append(data[at + _FRAME.size : end])
            missing -= size
            at = end + 1
        if missing:
            return None
        body = fragments[0] if len(fragments) == 1 else b"".join(fragments)
        routing_key = data[key + 1 : key_end].decode(errors="replace")
        return Delivery(body, routing_key, _sender_id(properties), bool(bits & 1), tag), at


def _read_sender_id(properties: bytes) -> str | None:
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
        pass  # of nobody whom we know
    return None


_recall_sender_id = functools.lru_cache(maxsize=256)(_read_sender_id)


def _sender_id(properties: bytes) -> str | None:
    """The ``app_id`` of a content header, given what comes after the size of the body."""
    if len(properties) <= _USUAL_BYTES:
        return _recall_sender_id(properties)
    return _read_sender_id(properties)


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
            and data.startswith(_END, at + size - 1)
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
            parts += _FRAME.pack(_BODY_FRAME, self._number, len(fragment)), fragment, _END
        return write(self._connection, b"".join(parts))


def write(connection: Any, data: bytes) -> bool:
    """Write whole frames to a connection: at once, as far as the socket takes them.

    pika itself waits for the poller to say that the socket can be written, and takes a system call
    for each frame.

    Returns:
        whether the socket took all; otherwise pika has the rest, and writes it when it can.
    """
    transport = connection._transport
    # What pika still has goes first.
    if transport.get_write_buffer_size() == 0:
        taken = 0
        # Full, or broken: pika finds out which when it tries the same bytes again.
        with contextlib.suppress(OSError):
            taken = transport._sock.send(data)
        if taken == len(data):
            return True
        data = data[taken:]
    connection._output_marshaled_frames([data])
    return False
