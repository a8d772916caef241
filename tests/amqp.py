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


def start_with(mechanisms: str = "PLAIN AMQPLAIN", **properties: Any) -> bytes:
    """What a broker sends first, which calls itself RabbitMQ unless it is told otherwise."""
    table = {"product": "RabbitMQ", "version": "3.12.1", **properties}
    return method(spec.Connection.Start(server_properties=table, mechanisms=mechanisms))


CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "authentication_failure_close": True,
}
START = start_with(capabilities=CAPABILITIES)
TUNE = method(spec.Connection.Tune(2_047, FRAME_MAX, 60))
OPEN_OK = method(spec.Connection.OpenOk())
DIALOGUE = (START, TUNE, OPEN_OK)


def channel_open_ok(channel: int) -> bytes:
    """That a channel is open."""
    return method(spec.Channel.OpenOk(), channel)


_ANSWERS: dict[type[Any], Callable[[Any], Any]] = {
    spec.Channel.Open: lambda _: spec.Channel.OpenOk(),
    spec.Exchange.Declare: lambda _: spec.Exchange.DeclareOk(),
    spec.Queue.Declare: lambda asked: spec.Queue.DeclareOk(asked.queue or "amq.gen-x", 0, 0),
    spec.Queue.Bind: lambda _: spec.Queue.BindOk(),
    spec.Queue.Delete: lambda _: spec.Queue.DeleteOk(0),
    spec.Basic.Qos: lambda _: spec.Basic.QosOk(),
    spec.Basic.Consume: lambda asked: spec.Basic.ConsumeOk(asked.consumer_tag),
    spec.Confirm.Select: lambda _: spec.Confirm.SelectOk(),
    spec.Channel.Close: lambda _: spec.Channel.CloseOk(),
    spec.Connection.Close: lambda _: spec.Connection.CloseOk(),
}


def answer_to(asked: Any, channel: int) -> bytes:
    """What a broker that allows everything answers to a method; nothing to login and messages."""
    answer = _ANSWERS.get(type(asked))
    return method(answer(asked), channel) if answer is not None else b""


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
