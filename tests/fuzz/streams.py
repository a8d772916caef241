"""Streams of frames, mutated, through our I/O and through pika alone: whoever differs is wrong.

Three readers get each stream: native I/O, which takes the most frequent frames itself; plain I/O,
which leaves every frame that may come to pika; and pika with nothing in front of it. Native and
plain have to agree in everything. pika may see more, behind a frame that the others refuse, and it
may fail earlier, over a header table that they leave out; but what it does see is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pika.channel
import pika.exceptions
import pika.frame
from pika import spec

from miros_rabbitmq.amqp.conduct import Misconduct
from miros_rabbitmq.amqp.native import Confirms, Deliveries
from miros_rabbitmq.amqp.services import Tap

from ..amqp import (
    HEARTBEAT,
    Endless,
    body,
    content,
    deliver,
    header,
    method,
    opened,
    raw,
    returned,
)

OURS, TAG, MOST_BODY = 7, "ctag7.ours", 40

_HEAD = 3
"""Before the stream: for whom it is, how it is cut, and whether it is made up or as it is."""

Seen = tuple[object, ...]


class Reader:
    """The part of pika that reads: decodes frames, and assembles contents.

    Args:
        native: have the most frequent frames taken before, if for a publisher or a consumer.
        judged: have each frame judged before.
        is_consumer: whether the channel is a consumer's.
    """

    def __init__(self, *, native: bool, judged: bool, is_consumer: bool) -> None:
        self.seen: list[Seen] = []
        self.failed: Exception | None = None
        self._channel = SimpleNamespace(channel_number=OURS, is_open=True, connection=None)
        self._assembler = pika.channel.ContentFrameAssembler()
        self._buffer = b""
        self._is_over = False
        self._is_consumer = is_consumer
        self._feed: Callable[[bytes], object] = self.data_received
        if judged:
            self._feed = self._judged(native=native).data_received

    def _judged(self, *, native: bool) -> Tap:
        conduct = opened(OURS, clock=lambda: 0.0)
        tap = Tap(self, conduct)
        if self._is_consumer:
            conduct.expect_deliveries(OURS, TAG, MOST_BODY)
            taker = Deliveries(self._channel, TAG, lambda one: self.seen.append(one), MOST_BODY)
            shortcut = taker.take
        else:
            owed = Endless(MOST_BODY)
            conduct.expect_confirms(OURS, owed)
            confirms = Confirms(self._channel, lambda *ack: self.seen.append(("ack", *ack)), owed)
            shortcut = confirms.take
        if native:
            tap.inflow.shortcut = shortcut
        return tap

    def feed(self, stream: bytes, piece: int) -> None:
        """Take a stream in pieces of so many bytes."""
        for at in range(0, len(stream), piece):
            try:
                self._feed(stream[at : at + piece])
            except Exception as error:  # noqa: BLE001 - pika alone raises anything
                self.failed = error
                return

    def data_received(self, data: bytes) -> None:
        """Stands in for pika's protocol."""
        self._buffer += data
        while self._buffer and not self._is_over:
            size, frame = pika.frame.decode_frame(self._buffer)
            if frame is None:
                return
            self._buffer = self._buffer[size:]
            if not isinstance(frame, pika.frame.ProtocolHeader):
                self._process(frame)

    def _process(self, frame: Any) -> None:
        what = getattr(frame, "method", None)
        if isinstance(frame, pika.frame.Heartbeat):
            self.seen.append(("heartbeat",))
        elif frame.channel_number == 0:
            self._is_over = isinstance(what, spec.Connection.Close)
        elif frame.channel_number != OURS or not self._channel.is_open:
            pass
        elif isinstance(what, spec.Channel.Close | spec.Channel.CloseOk):
            self._channel.is_open = False
        elif isinstance(what, spec.Basic.Ack) and not self._is_consumer:
            self.seen.append(("ack", what.delivery_tag, what.multiple))
        elif isinstance(what, spec.Basic.Nack) and not self._is_consumer:
            self.seen.append(("nack", what.delivery_tag, what.multiple))
        else:
            try:
                message = self._assembler.process(frame)
            except pika.exceptions.UnexpectedFrameError:
                return
            if message is not None:
                self._note(message[0].method, message[2])

    def _note(self, what: Any, whole: bytes) -> None:
        if isinstance(what, spec.Basic.Deliver) and what.consumer_tag == TAG:
            names = _text(what.routing_key), _text(what.exchange)
            cut = whole[: MOST_BODY + 1]
            self.seen.append((cut, *names, what.redelivered, what.delivery_tag))
        elif isinstance(what, spec.Basic.Return) and not self._is_consumer:
            self.seen.append(("return", whole))


def _is_cut(one: Seen) -> bool:
    return isinstance(one[0], bytes) and len(one[0]) > MOST_BODY


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")


def difference(data: bytes) -> str:
    """Say in what the readers of a stream differ; empty if in nothing.

    Raises:
        Exception: our own code has raised what is no `Misconduct`.
    """
    if len(data) < _HEAD:
        return ""
    stream = data[_HEAD:] if data[2] % 2 else b"".join(_made_up(data[_HEAD:]))
    is_consumer, piece = bool(data[0] % 2), 1 + data[1] * (data[1] % 7)
    native = Reader(native=True, judged=True, is_consumer=is_consumer)
    plain = Reader(native=False, judged=True, is_consumer=is_consumer)
    alone = Reader(native=False, judged=False, is_consumer=is_consumer)
    native.feed(stream, piece)
    plain.feed(stream, len(stream) or 1)
    alone.feed(stream, len(stream) or 1)
    for one in (native, plain):
        if one.failed is not None and not isinstance(one.failed, Misconduct):
            raise one.failed
    if native.seen != plain.seen or str(native.failed) != str(plain.failed):
        return f"native {native.seen} {native.failed}, plain {plain.seen} {plain.failed}"
    # What is cut is handed over before the rest of it has come, if that comes at all.
    ours, pikas = ([one for one in seen if not _is_cut(one)] for seen in (plain.seen, alone.seen))
    common = min(len(ours), len(pikas))
    is_same = ours[:common] == pikas[:common]
    if len(ours) > common and alone.failed is None:
        is_same = False
    if len(pikas) > common and plain.failed is None:
        is_same = False
    if not is_same:
        return f"ours {ours} {plain.failed}, pika alone {pikas} {alone.failed!r}"
    return ""


def _made_up(data: bytes) -> Iterator[bytes]:
    """Frames, whole and broken, as the bytes say: so the fuzzer gets far beyond the first."""
    codes = iter(data)
    stream = bytearray()
    last = b""
    for tag, code in enumerate(codes, 1):
        argument = next(codes, 0)
        frame = _frame(code % 18, argument, tag, next(codes, 0))
        if code % 18 == 15:
            del stream[len(stream) - argument % 40 :]
        elif code % 18 == 16 and stream:
            stream[-1 - argument % min(len(stream), 64)] ^= 1 << (code // 18 % 8)
        else:
            last = frame or last
            stream += last
    yield bytes(stream)


def _frame(code: int, argument: int, tag: int, other: int) -> bytes:
    size = argument % 80
    return {
        0: lambda: deliver(OURS, TAG, tag) + content(OURS, bytes(size), 1 + other % 80),
        1: lambda: deliver(OURS, TAG, tag) + content(OURS, bytes(size)),
        2: lambda: deliver(OURS, TAG, tag),
        3: lambda: header(OURS, size),
        4: lambda: body(OURS, bytes(size)),
        5: lambda: HEARTBEAT,
        6: lambda: method(spec.Basic.Ack(tag, bool(argument % 2)), OURS),
        7: lambda: returned(OURS) + content(OURS, bytes(size % 45), 1 + other % 80),
        8: lambda: deliver(OURS, "another", tag) + content(OURS, bytes(size)),
        9: lambda: deliver(OURS + 1, TAG, tag) + content(OURS + 1, bytes(size)),
        10: lambda: method(spec.Channel.Flow(bool(argument % 2)), OURS),
        11: lambda: method(spec.Channel.Close(200, "x", 0, 0), OURS),
        12: lambda: method(spec.Connection.Blocked("x" * size)),
        13: lambda: header(OURS, size, b"\x20\0\0\0\0\x0b\x01tT" + bytes([other]) * 8),
        14: lambda: returned(OURS),
        17: lambda: raw(argument % 10, OURS, bytes(other % 50)),
    }.get(code, lambda: b"")()


def seeds() -> list[bytes]:
    """Streams to begin with: as they are, and made up."""
    whole = deliver(OURS, TAG) + content(OURS, b"a body", 4)
    streams = [
        whole + HEARTBEAT + whole,
        deliver(OURS, TAG) + header(OURS, 9) + body(OURS, b"part") + whole,
        deliver(OURS, TAG) + whole,
        deliver(OURS, TAG) + content(OURS, bytes(100), 30) + whole,
        method(spec.Basic.Ack(1, True), OURS) + method(spec.Basic.Nack(2), OURS),
        returned(OURS) + header(OURS, 9) + method(spec.Basic.Ack(1), OURS),
        returned(OURS) + content(OURS, b"back") + method(spec.Basic.Ack(1), OURS),
        method(spec.Connection.Close(320, "shutdown", 0, 0)) + whole,
    ]
    made_up = [
        bytes((0, 9, 3, 1, 50, 0, 5, 0, 0, 0, 70, 20)),
        bytes((2, 0, 0, 3, 9, 0, 4, 4, 0, 0, 9, 3)),
        bytes((6, 0, 0, 7, 9, 3, 6, 1, 0, 14, 0, 0, 6, 0, 0)),
        bytes((0, 9, 3, 15, 7, 0, 0, 9, 3, 16, 5, 0, 0, 9, 3)),
    ]
    return [
        bytes((consumer, cut, kind)) + stream
        for consumer in (0, 1)
        for cut in (0, 3, 255)
        for kind, group in ((1, streams), (0, made_up))
        for stream in group
    ]
