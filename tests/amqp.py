"""What a broker sends, as bytes: the frames of AMQP that tests and fakes need."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pika.frame
from pika import spec

from miros_rabbitmq.amqp.conduct import Conduct
from miros_rabbitmq.amqp.frames import FRAME
from miros_rabbitmq.amqp.owed import Owed

FRAME_MAX = 131_072
HEARTBEAT: bytes = pika.frame.Heartbeat().marshal()


def method(what: Any, channel: int = 0) -> bytes:
    """A method as a frame."""
    return bytes(pika.frame.Method(channel, what).marshal())


def raw(kind: int, channel: int, contents: bytes, *, size: int | None = None) -> bytes:
    """A frame of any contents, which may lie about its size."""
    return FRAME.pack(kind, channel, len(contents) if size is None else size) + contents + b"\xce"


def header(channel: int, body_size: int, properties: bytes = b"\0\0") -> bytes:
    """A content header."""
    contents = struct.pack(">HHQ", spec.Basic.INDEX, 0, body_size) + properties
    return raw(spec.FRAME_HEADER, channel, contents)


def body(channel: int, fragment: bytes) -> bytes:
    """A part of a body."""
    return raw(spec.FRAME_BODY, channel, fragment)


def content(channel: int, whole: bytes, fragment: int = FRAME_MAX - 8) -> bytes:
    """A content header and the body."""
    parts = (whole[at : at + fragment] for at in range(0, len(whole), fragment))
    return header(channel, len(whole)) + b"".join(body(channel, part) for part in parts)


def deliver(channel: int, consumer_tag: str, tag: int = 1) -> bytes:
    """The method of a delivery."""
    return method(spec.Basic.Deliver(consumer_tag, tag, False, "miros.mesh", "key"), channel)


def returned(channel: int) -> bytes:
    """The method of a message that comes back."""
    return method(spec.Basic.Return(312, "NO_ROUTE", "miros.mesh", "key"), channel)


START = method(
    spec.Connection.Start(
        server_properties={
            "product": "RabbitMQ",
            "version": "3.12.1",
            "capabilities": {"publisher_confirms": True, "basic.nack": True},
        },
        mechanisms="PLAIN AMQPLAIN",
    )
)
TUNE = method(spec.Connection.Tune(2_047, FRAME_MAX, 60))
OPEN_OK = method(spec.Connection.OpenOk())
DIALOGUE = (START, TUNE, OPEN_OK)


def channel_open_ok(channel: int) -> bytes:
    """That a channel is open."""
    return method(spec.Channel.OpenOk(), channel)


class Endless(Owed):
    """Any confirm and any return is owed, for tests of how they are read."""

    def __init__(self, most_returned: int = 0) -> None:
        super().__init__()
        self.most_returned = most_returned

    def note_confirm(self, tag: int, *, multiple: bool) -> bool:
        return True

    def note_return(self) -> bool:
        return True


def opened(
    *channels: int, clock: Callable[[], float] = time.monotonic, frame_max: int = FRAME_MAX
) -> Conduct:
    """The conduct of a connection that is open, with these channels."""
    conduct = Conduct(frame_max, clock)
    for frame in DIALOGUE:
        assert conduct.judge(frame) == frame
    for channel in channels:
        conduct.open_channel(channel)
        assert conduct.judge(channel_open_ok(channel)) == channel_open_ok(channel)
    return conduct
