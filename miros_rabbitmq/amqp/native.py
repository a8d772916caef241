"""Messages written and read without pika: every use of pika's private parts is in this module.

pika makes objects of each frame and asks several registries which callback waits for it. An event
that goes alone costs three frames at its sender, three at its receiver and one for the confirm:
more than its encryption. Here the parts that all messages of a channel share are made once, and the
most frequent frames are recognized by their first bytes. All other frames are left to pika, in
order.

The private parts: ``_transport``, ``_heartbeat_checker`` and ``_adapter_remove_timeout`` of a
connection; ``_sock``, ``_state``, ``_STATE_ACTIVE``, ``_initiate_abort``, ``_MAX_RECV_BYTES`` and
``_MAX_CONSUME_BYTES`` of a transport; ``_send_interval`` and ``_send_timer`` of what sends and
checks heartbeats. `misfit` checks them.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable
from typing import Any

import pika
import pika.adapters.base_connection
import pika.adapters.utils.io_services_utils
import pika.channel
import pika.frame
import pika.heartbeat
import pika.spec

from .conduct import MOST_BODY, most_parts
from .frames import END, FRAME, HEADER, LEAST_HEADER, TAGGED
from .message_io import Delivery, Outbound
from .owed import Owed
from .services import Tap

_RECEIVE_BYTES = 64 * 1024
"""How many bytes to read from a socket at once. With pika's 4 KiB, one message takes some dozen
calls, and at each of them a busy chart may take the interpreter for a while."""

_BODY_SIZE = slice(11, 19)
"""Where the size of the body is in a marshalled content header (AMQP 0-9-1, 2.3.5.2): after the
type, channel and size of the frame, the class and the weight."""

_ACK = struct.Struct(">BHII")
"""How a ``basic.ack`` begins: type, channel, size, method."""

_MOST_HEADS = 256
"""The most routing keys whose frames are kept ready."""

_METHOD_FRAME, _HEADER_FRAME = pika.spec.FRAME_METHOD, pika.spec.FRAME_HEADER
_BODY_FRAME, _FRAME_END = pika.spec.FRAME_BODY, pika.spec.FRAME_END
_BASIC, _BASIC_ACK = pika.spec.Basic.INDEX, pika.spec.Basic.Ack.INDEX
_BASIC_DELIVER = struct.pack(">I", pika.spec.Basic.Deliver.INDEX)
_ACK_SIZE, _MULTIPLE = 13, 1


class NativeWire:
    """Messages without pika."""

    name = "native"
    writes_from_any_thread = True

    def __init__(self) -> None:
        self._tap: Tap | None = None

    def open(self, connection: pika.SelectConnection, tap: Tap) -> Callable[[], bool] | None:
        """Have a new connection read as much as a whole batch in one call, and once at a time.

        pika itself calls again until there is nothing, which costs an exception each time. Of TLS
        there may be something left that no poller tells of, so TLS is read by pika.
        """
        self._tap = tap
        transport = connection._transport
        transport._MAX_RECV_BYTES = _RECEIVE_BYTES
        if isinstance(transport._sock, ssl.SSLSocket):
            return None
        transport._MAX_CONSUME_BYTES = 1
        return _reader(transport, tap)

    def take_heartbeats(
        self, connection: pika.SelectConnection, interval_s: float
    ) -> Callable[[], object] | None:
        """Stop pika's timer for heartbeats, each of which would go out beside a request of ours.

        pika goes on to check that something comes.
        """
        checker = connection._heartbeat_checker
        if checker is None or checker._send_timer is None or checker._send_interval < interval_s:
            return None
        connection._adapter_remove_timeout(checker._send_timer)
        checker._send_timer = None
        frame = pika.frame.Heartbeat().marshal()
        return lambda: write(connection, frame)

    def publishing(
        self,
        channel: pika.channel.Channel,
        outbound: Outbound,
        on_ack: Callable[[int, bool], object],
    ) -> Publishing:
        """Begin to publish, and take confirms."""
        assert self._tap is not None
        owed = self._tap.conduct.expect_confirms(channel.channel_number)
        self._tap.inflow.shortcut = Confirms(channel, on_ack, owed).take
        return Publishing(channel, outbound, owed, mandatory=True)

    def consuming(
        self,
        channel: pika.channel.Channel,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
        most_body: int | None = None,
    ) -> Deliveries:
        """Begin to take deliveries."""
        assert self._tap is not None
        self._tap.conduct.expect_deliveries(channel.channel_number, consumer_tag, most_body)
        deliveries = Deliveries(channel, consumer_tag, on_delivery, most_body)
        self._tap.inflow.shortcut = deliveries.take
        return deliveries


def _reader(transport: Any, tap: Tap) -> Callable[[], bool]:
    """Reads once from the socket of a transport, as pika's ``_on_socket_readable`` does.

    Returns:
        a function that tells whether it has read. The end of the stream is left to pika.
    """
    receive, take, is_active = transport._sock.recv, tap.data_received, transport._STATE_ACTIVE

    def read() -> bool:
        if transport._state != is_active:
            return False
        try:
            data = receive(_RECEIVE_BYTES)
            if data:
                take(data)
        except BlockingIOError:
            return True
        except Exception as error:  # noqa: BLE001 - pika treats all alike
            transport._initiate_abort(error)
            return True
        return bool(data)

    return read


class Deliveries:
    """``basic.deliver`` to one consumer, and ``basic.ack`` for them.

    Args:
        channel: an open channel.
        consumer_tag: the consumer's.
        on_delivery: called with each delivery.
        most_body: larger bodies are left to pika, which gets them cut.
    """

    def __init__(
        self,
        channel: Any,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
        most_body: int | None = None,
    ) -> None:
        self._channel = channel
        number = self._number = channel.channel_number
        self._begin = struct.pack(">BH", _METHOD_FRAME, number)
        self._ack = _begin_of_ack(channel)
        tag = consumer_tag.encode()
        self._method = _BASIC_DELIVER + bytes((len(tag),)) + tag
        self._on_delivery = on_delivery
        self._most_body = MOST_BODY if most_body is None else most_body

    def take(self, data: bytes, at: int = 0) -> int:
        """Hand over the whole deliveries that begin at a place; returns where they end.

        What is malformed, or is no such delivery, is left to others.
        """
        while data.startswith(self._begin, at) and self._channel.is_open:
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
        frame = self._ack + TAGGED.pack(tag, _MULTIPLE, _FRAME_END)
        write(self._channel.connection, frame)

    def _parse(self, data: bytes, at: int) -> tuple[Delivery, int] | None:
        """The delivery that begins at a frame, and where it ends."""
        contents = at + FRAME.size
        if not data.startswith(self._method, contents):
            return None
        end = contents + FRAME.unpack_from(data, at)[2]
        fields = contents + len(self._method)
        tag, bits, exchange = TAGGED.unpack_from(data, fields)
        key = fields + TAGGED.size + exchange
        key_end = key + 1 + data[key]
        if key_end != end or data[end] != _FRAME_END:
            return None
        at = end + 1
        kind, channel, size, cls, _, body_size = HEADER.unpack_from(data, at)
        end = at + FRAME.size + size
        if (kind, channel, cls, data[end]) != (_HEADER_FRAME, self._number, _BASIC, _FRAME_END):
            return None
        if size < LEAST_HEADER or body_size > self._most_body:
            return None
        at = end + 1
        fragments = []
        missing = body_size
        while missing > 0:
            kind, channel, size = FRAME.unpack_from(data, at)
            end = at + FRAME.size + size
            if (kind, channel, data[end]) != (_BODY_FRAME, self._number, _FRAME_END) or not size:
                return None
            fragments.append(data[at + FRAME.size : end])
            missing -= size
            at = end + 1
        if missing:
            return None
        if len(fragments) == 1:
            body = fragments[0]
        elif len(fragments) <= most_parts(body_size):
            body = b"".join(fragments)
        else:
            return None
        routing_key = data[key + 1 : key_end].decode(errors="replace")
        exchange_name = data[key - exchange : key].decode(errors="replace")
        return Delivery(body, routing_key, exchange_name, bool(bits & 1), tag), at


def _begin_of_ack(channel: Any) -> bytes:
    return _ACK.pack(_METHOD_FRAME, channel.channel_number, _ACK_SIZE, _BASIC_ACK)


class Confirms:
    """``basic.ack`` of a broker that confirms what is published.

    Args:
        channel: an open channel.
        on_confirm: called with the delivery tag of each, and with whether it stands for all tags up
            to it.
        owed: what may be confirmed. Other confirms are left to `Conduct`, which refuses them.
    """

    def __init__(self, channel: Any, on_confirm: Callable[[int, bool], object], owed: Owed) -> None:
        self._channel = channel
        self._owed = owed
        self._begin = _begin_of_ack(channel)
        self._on_confirm = on_confirm

    def take(self, data: bytes, at: int = 0) -> int:
        """Hand over the whole confirms that begin at a place; returns where they end."""
        size = _ACK.size + TAGGED.size
        while (
            data.startswith(self._begin, at)
            and data.startswith(END, at + size - 1)
            and self._channel.is_open
        ):
            tag, bits, _ = TAGGED.unpack_from(data, at + _ACK.size)
            multiple = bool(bits & _MULTIPLE)
            if not self._owed.note_confirm(tag, multiple=multiple):
                break
            at += size
            self._on_confirm(tag, multiple)
        return at


class Publishing:
    """``basic.publish`` of one channel: frames that differ only in the body are made once.

    For a thread inside `Link.run_here`, or the reactor's.

    Args:
        channel: an open channel.
        outbound: what all messages have in common.
        owed: is told of each message.
        mandatory: whether the broker returns messages for which no queue is bound.
    """

    def __init__(self, channel: Any, outbound: Outbound, owed: Owed, *, mandatory: bool) -> None:
        number = self._number = channel.channel_number
        self._exchange = outbound.exchange
        self._mandatory = mandatory
        self._owed = owed
        self._heads: dict[str, bytes] = {}
        header = pika.frame.Header(number, 0, outbound.properties).marshal()
        self._begin_of_header = header[: _BODY_SIZE.start]
        self._tail = header[_BODY_SIZE.stop :]
        self._connection: Any = channel.connection
        overhead = pika.spec.FRAME_HEADER_SIZE + pika.spec.FRAME_END_SIZE
        self._largest = self._connection.params.frame_max - overhead

    def publish(self, routing_key: str, body: bytes) -> bool:
        """Write one message, as much of it as the socket takes now; pika writes the rest.

        Returns:
            whether the socket took all of it.
        """
        size = len(body)
        self._owed.note_published(size)
        head = self._heads.get(routing_key) or self._make_head(routing_key)
        parts = [head, size.to_bytes(8, "big"), self._tail]
        for at in range(0, size, self._largest):
            fragment = body[at : at + self._largest]
            parts += FRAME.pack(_BODY_FRAME, self._number, len(fragment)), fragment, END
        return write(self._connection, b"".join(parts))

    def note_another(self, size: int) -> None:
        """Note a message that was published on the channel without this."""
        self._owed.note_published(size)

    def _make_head(self, routing_key: str) -> bytes:
        """What comes before the size of the body, for one routing key."""
        method = pika.spec.Basic.Publish(
            exchange=self._exchange, routing_key=routing_key, mandatory=self._mandatory
        )
        head: bytes = pika.frame.Method(self._number, method).marshal() + self._begin_of_header
        if len(self._heads) == _MOST_HEADS:
            self._heads.clear()
        self._heads[routing_key] = head
        return head


def write(connection: Any, data: bytes) -> bool:
    """Write whole frames to a connection: at once, as far as the socket takes them.

    pika itself waits until the poller says that the socket is writable, and makes a system call for
    each frame.

    Returns:
        whether the socket took all; otherwise pika has the rest, and writes it when it can.
    """
    transport = connection._transport
    # What pika still has to write goes first.
    if transport.get_write_buffer_size() == 0:
        try:
            taken = transport._sock.send(data)
        except OSError:
            # The socket is full or broken: pika finds out which when it tries the same bytes again.
            taken = 0
        if taken == len(data):
            return True
        data = data[taken:]
    transport.write(data)
    return False


def misfit() -> str:
    """Say why this module cannot be used with the pika that is installed; empty if it can."""
    try:
        return _missing_part() or _wrong_bytes()
    except Exception as error:  # noqa: BLE001 - whatever it is, pika is another than we know
        return f"this pika is not as expected ({type(error).__name__}: {error})"


def _missing_part() -> str:
    base = pika.adapters.base_connection.BaseConnection
    checker = pika.heartbeat.HeartbeatChecker
    transport = pika.adapters.utils.io_services_utils._AsyncTransportBase
    for where, names in (
        (base._proto_connection_made.__code__.co_names, ("_transport",)),
        (transport.__init__.__code__.co_names, ("_sock",)),
        (transport._consume.__code__.co_names, ("_sock", "_MAX_RECV_BYTES", "_MAX_CONSUME_BYTES")),
        (
            dir(transport),
            (
                "_MAX_RECV_BYTES",
                "_MAX_CONSUME_BYTES",
                "_STATE_ACTIVE",
                "_initiate_abort",
                "get_write_buffer_size",
            ),
        ),
        (transport.__init__.__code__.co_names, ("_state",)),
        (base._remove_heartbeat.__code__.co_names, ("_heartbeat_checker",)),
        (dir(base), ("_adapter_remove_timeout",)),
        (checker.__init__.__code__.co_names, ("_send_interval", "_send_timer")),
        (checker.stop.__code__.co_names, ("_send_timer",)),
    ):
        for name in names:
            if name not in where:
                return f"pika {pika.__version__} has no {name}"
    return ""


class _Sample:
    """Stands in for a channel, its connection and its transport, and keeps what is written."""

    channel_number = 3
    is_open = True

    def __init__(self) -> None:
        self.connection = self._transport = self._sock = self
        self.params = pika.ConnectionParameters()
        self.written = b""

    def get_write_buffer_size(self) -> int:
        return 0

    def send(self, data: bytes) -> int:
        self.written += data
        return len(data)


def _wrong_bytes() -> str:
    """Compare what is written and read here with what pika writes."""
    sample = _Sample()
    number, body = sample.channel_number, b"a body"
    properties = pika.BasicProperties(delivery_mode=2)
    outbound = Outbound("exchange", properties)
    owed = Owed()
    Publishing(sample, outbound, owed, mandatory=True).publish("a.key", body)
    header = pika.frame.Header(number, len(body), properties).marshal()
    contents = header + pika.frame.Body(number, body).marshal()
    publish = pika.spec.Basic.Publish(exchange="exchange", routing_key="a.key", mandatory=True)
    if sample.written != pika.frame.Method(number, publish).marshal() + contents:
        return f"pika {pika.__version__} writes a message otherwise"
    deliver = pika.spec.Basic.Deliver("tag", 5, False, "exchange", "a.key")
    found: list[Any] = []
    data = pika.frame.Method(number, deliver).marshal() + contents
    deliveries = Deliveries(sample, "tag", found.append)
    if deliveries.take(data) != len(data) or found != [
        Delivery(body, "a.key", "exchange", False, 5)
    ]:
        return f"pika {pika.__version__} writes a delivery otherwise"
    sample.written = b""
    deliveries.acknowledge(1)
    ack = pika.frame.Method(number, pika.spec.Basic.Ack(1, True)).marshal()
    confirmed: list[Any] = []
    taken = Confirms(sample, lambda *confirm: confirmed.append(confirm), owed).take(ack)
    if sample.written != ack or taken != len(ack) or confirmed != [(1, True)]:
        return f"pika {pika.__version__} writes a confirm otherwise"
    return ""
