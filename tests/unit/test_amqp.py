"""What is written past pika: the bytes that pika makes, and none lost where a socket is full."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pika
import pika.connection
import pytest

from miros_rabbitmq.amqp import Publishing, read_more_at_once, write

FRAME_MAX = 4_096
PROPERTIES = pika.BasicProperties(app_id="someone", delivery_mode=2)


class Pika(pika.connection.Connection):  # type: ignore[misc]  # pika has no type hints
    """pika's own marshalling, its output kept."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.params = SimpleNamespace(frame_max=FRAME_MAX)
        self._body_max_length = FRAME_MAX - 8
        self.bytes_sent = self.frames_sent = 0
        self._transport: Any = None

    def _adapter_emit_data(self, data: bytes) -> None:
        self.written += data

    # What the base class leaves to its subclasses, and is not used here.
    _adapter_add_timeout = _adapter_remove_timeout = None
    _adapter_add_callback_threadsafe = _adapter_connect_stream = _adapter_disconnect_stream = None
    _adapter_call_later = None


class Transport:
    """As much of pika's transport as is used."""

    def __init__(self, sock: socket.socket, buffered: int = 0) -> None:
        self._sock = sock
        self.buffered = buffered

    def get_write_buffer_size(self) -> int:
        return self.buffered


@pytest.fixture
def sockets() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def received(sock: socket.socket) -> bytes:
    data = bytearray()
    try:
        while piece := sock.recv(65_536):
            data += piece
    except BlockingIOError:
        pass
    return bytes(data)


@pytest.mark.parametrize("size", [0, 1, 300, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 20_000])
@pytest.mark.parametrize("mandatory", [True, False])
def test_it_writes_what_pika_would(sockets: Any, size: int, mandatory: bool) -> None:
    body = bytes(n % 251 for n in range(size))
    reference = Pika()
    method = pika.spec.Basic.Publish(
        exchange="miros.mesh", routing_key="some.key", mandatory=mandatory
    )
    reference._send_message(7, method, (PROPERTIES, body))
    ours, theirs = sockets
    connection = Pika()
    connection._transport = Transport(ours)
    channel = SimpleNamespace(channel_number=7, connection=connection)
    publishing = Publishing(channel, "miros.mesh", "some.key", PROPERTIES, mandatory=mandatory)
    for _ in range(2):
        assert publishing.publish(body)
        assert received(theirs) == reference.written
    assert not connection.written, "pika has nothing left to write"


def test_what_a_full_socket_does_not_take_is_left_to_pika(sockets: Any) -> None:
    ours, theirs = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    connection = Pika()
    connection._transport = Transport(ours)
    data = bytes(n % 251 for n in range(2_000_000))
    assert not write(connection, data)
    assert 0 < len(connection.written) < len(data)
    assert received(theirs) + connection.written == data


def test_what_pika_still_has_to_write_goes_first(sockets: Any) -> None:
    ours, theirs = sockets
    connection = Pika()
    connection._transport = Transport(ours, buffered=1)
    assert not write(connection, b"later")
    assert connection.written == b"later"
    assert received(theirs) == b""


def test_a_broken_socket_is_for_pika_to_find(sockets: Any) -> None:
    ours, theirs = sockets
    theirs.close()
    connection = Pika()
    connection._transport = Transport(ours)
    assert not write(connection, b"lost")
    assert connection.written == b"lost"


def test_pika_has_the_parts_that_are_used_besides_its_documented_ones() -> None:
    """Where a newer pika lacks one, this says so before a connection does."""
    transport = pika.adapters.utils.io_services_utils._AsyncTransportBase
    assert hasattr(transport, "get_write_buffer_size")
    assert isinstance(transport._MAX_RECV_BYTES, int)
    assert hasattr(pika.connection.Connection, "_output_marshaled_frames")
    assert hasattr(pika.connection.Connection, "_terminate_stream")


def test_a_connection_without_a_transport_is_left_as_it_is() -> None:
    read_more_at_once(SimpleNamespace(_transport=None))
    read_more_at_once(SimpleNamespace())
