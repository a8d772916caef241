"""pika's connection, with a way past it for what arrives most and for what is sent most.

What that is, is the business of `framing`; what all frames have in common stands here. Everything
else is left to pika, in its order. Whatever pika has no public way to do with a connection's bytes
is done here.
"""

from __future__ import annotations

import contextlib
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pika
import pika.frame
import pika.spec

from .sender_id import sender_id_of

_RECEIVE_BYTES = 64 * 1024
"""Read from a socket at once. pika's 4 KiB make some dozen calls of one message, and at each of
them a busy chart may take the interpreter for a while."""

FRAME = struct.Struct(">BHI")
"""How a frame begins: its type, channel and size. One more octet comes after its contents."""

HEADER = struct.Struct(">BHIHHQ")
"""How a content header begins: the same, then its class, weight, and the size of the body."""

END = bytes((pika.spec.FRAME_END,))
"""Ends every frame."""
_HEADER_BEGIN = bytes((pika.spec.FRAME_HEADER,))


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
        if data[:1] == _HEADER_BEGIN and len(data) > FRAME.size:
            _, channel, size = FRAME.unpack_from(data)
            end = FRAME.size + size
            if size >= HEADER.size - FRAME.size and data[end : end + 1] == END:
                body_size = HEADER.unpack_from(data)[-1]
                properties = pika.BasicProperties(app_id=sender_id_of(data[HEADER.size : end]))
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
