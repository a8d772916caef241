"""What a peer may send at each moment of a connection, and how much of it.

Whoever answers where a broker is expected may be anybody: a machine that has taken over an address,
or a program that says it is RabbitMQ. So each whole frame is judged before pika sees it:

- the dialogue at the beginning has one order, and nobody gets a password who does not say, in
  `introduction`'s terms, that it is RabbitMQ;
- a channel carries only what it was opened for: confirms and returns of what was published,
  deliveries to a consumer that was asked for, and the answers to requests;
- a content comes whole, in order, and within its limit;
- everything but contents and confirms is rare, and rationed.

Whatever else comes ends the connection (`Misconduct`), which is then tried again with the usual
waits. Native and plain I/O share this, so both refuse the same.

Pure: bytes in and out; the clock is handed in. pika decodes the rare methods. Not thread-safe.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

import pika.frame
from pika import spec

from .. import faults
from ..exceptions import BrokerError
from ..greeting import expects_tls
from ..introduction import MOST_BYTES, Unfit, check_frame_max, check_start, foreign
from ..urls import Address
from .frames import FRAME, METHOD, OVERHEAD, TAGGED, bare_header, body_frame, header_size
from .owed import Owed

MOST_BODY = 512 * 1024 * 1024
"""No RabbitMQ lets through a larger message, whatever its ``max_message_size`` is set to."""

_CONTROL_AT_ONCE = 1_000
_CONTROL_PER_S = 100.0
"""How many frames may come that are neither contents nor confirms: at once, and in each second. A
busy connection has a few a second: heartbeats, and the answers to what was asked."""

_FEW_PARTS = 64
_MEAN_PART = 1_024
"""In how many parts a body may come: so few in any case, and more if they are of this size on
average. A broker fills its frames, which have at least 4,096 bytes."""

_LONGEST_NAME = 255
"""The most bytes of a short string (AMQP 0-9-1, 4.2.5.3)."""

_GREETING = 8
"""So many bytes has the shortest frame, and the answer to a version that is not understood."""

_HEARTBEAT = spec.FRAME_HEARTBEAT
_DELIVER, _RETURN = spec.Basic.Deliver.INDEX, spec.Basic.Return.INDEX
_CONFIRMS = frozenset((spec.Basic.Ack.INDEX, spec.Basic.Nack.INDEX))

_ARGUMENTS = FRAME.size + METHOD.size
"""Where the arguments of a method begin in its frame."""


class Misconduct(Exception):
    """The peer has sent what it must not; the connection cannot go on.

    Attributes:
        fault: makes the error, for the broker's address.
    """

    def __init__(self, detail: str, fault: Callable[[Address], BrokerError] | None = None) -> None:
        super().__init__(detail)
        usual = partial(faults.misbehaved, detail=detail)
        self.fault: Callable[[Address], BrokerError] = fault or usual


class _Phase(enum.Enum):
    """How far the dialogue of a connection is: what comes next."""

    START = enum.auto()
    TUNE = enum.auto()
    OPEN_OK = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()
    """Nothing that comes counts any more."""


_CONNECTION_METHODS: dict[_Phase, tuple[Any, ...]] = {
    _Phase.START: (spec.Connection.Start,),
    _Phase.TUNE: (spec.Connection.Tune, spec.Connection.Close),
    _Phase.OPEN_OK: (spec.Connection.OpenOk, spec.Connection.Close),
    _Phase.OPEN: (
        spec.Connection.Blocked,
        spec.Connection.Unblocked,
        spec.Connection.Close,
        spec.Connection.CloseOk,
    ),
}
"""The methods of the connection itself."""

_NEXT = {
    spec.Connection.Start: _Phase.TUNE,
    spec.Connection.Tune: _Phase.OPEN_OK,
    spec.Connection.OpenOk: _Phase.OPEN,
    spec.Connection.Close: _Phase.CLOSED,
}

_LIFE = frozenset((spec.Channel.OpenOk.INDEX, spec.Channel.Close.INDEX, spec.Channel.CloseOk.INDEX))
_CONTROL = _LIFE | {
    method.INDEX
    for method in (
        spec.Channel.Flow,
        spec.Exchange.DeclareOk,
        spec.Queue.DeclareOk,
        spec.Queue.BindOk,
        spec.Queue.DeleteOk,
        spec.Basic.QosOk,
        spec.Basic.ConsumeOk,
        spec.Basic.Cancel,
        spec.Basic.CancelOk,
        spec.Confirm.SelectOk,
        spec.Tx.SelectOk,
        spec.Tx.RollbackOk,
    )
}
"""The methods of a channel, besides contents and confirms: the answers to what this package asks
for, and what a broker says by itself."""


class _Stage(enum.Enum):
    """What comes next on a channel."""

    METHOD = enum.auto()
    HEADER = enum.auto()
    BODY = enum.auto()


class Channel:
    """What one channel may carry, and the content that is under way on it."""

    __slots__ = (
        "consumers",
        "is_closed",
        "is_open",
        "keep",
        "left",
        "limit",
        "most_kept",
        "owed",
        "parts",
        "stage",
    )

    def __init__(self) -> None:
        self.is_open: bool = False
        self.is_closed: bool = False
        self.consumers: dict[bytes, int] = {}
        """The consumers' tags, and how much of a body is kept for each."""
        self.owed: Owed | None = None
        """What may be confirmed and returned; `None` if nothing is published here."""
        self.stage: _Stage = _Stage.METHOD
        self.limit: int = 0
        self.most_kept: int = 0
        """The largest body that may come now, and how much of it is kept, but for one byte."""
        self.left: int = 0
        self.keep: int = 0
        self.parts: int = 0
        """How much of the body is still to come, how much to be kept, and in how many parts."""


class Conduct:
    """Judges the frames of one connection, in order.

    Args:
        frame_max: the largest frame that we accept, in bytes.
        clock: a monotonic clock, in seconds.
        secret: the password, which must not be shown if the peer says it.
    """

    def __init__(self, frame_max: int, clock: Callable[[], float], secret: str = "") -> None:
        self.most_frame: int = MOST_BYTES
        """The largest frame at present, in bytes, with what is around its contents."""
        self.amid: int = 0
        """The number of channels on which a content has begun and not ended; never 0 again when the
        broker has closed the connection. While it is not 0, each frame has to be judged."""
        self._frame_max = frame_max
        self._secret = secret
        self._ration = _Ration(clock)
        self._phase = _Phase.START
        self._channels: dict[int, Channel] = {}

    # What we do.

    def open_channel(self, number: int) -> None:
        """Note that a channel was asked for."""
        self._channels[number] = Channel()

    def expect_confirms(self, number: int, owed: Owed | None = None) -> Owed:
        """Note that something is published on a channel: it may be confirmed, and returned.

        Args:
            number: the channel's.
            owed: counts the messages; by default, that of the channel so far, or a new one.

        Returns:
            what counts them; whoever publishes notes each.
        """
        channel = self._channels[number]
        channel.owed = owed or channel.owed or Owed()
        return channel.owed

    def expect_deliveries(
        self, number: int, consumer_tag: str, most_body: int | None = None
    ) -> None:
        """Note that a consumer was asked for on a channel.

        Args:
            number: the channel's.
            consumer_tag: the consumer's.
            most_body: the consumer refuses larger bodies: they are cut to one byte more than this,
                as they would take as much memory as their sender likes.
        """
        most = MOST_BODY if most_body is None else most_body
        self._channels[number].consumers[consumer_tag.encode()] = most

    # What the peer does.

    def judge_greeting(self, data: bytes) -> int:
        """Judge data that begins with no frame.

        Returns:
            how many bytes are needed to tell more.

        Raises:
            Misconduct: they are there.
        """
        if self._phase is not _Phase.START:
            raise self._misconduct(f"a frame of the unknown type {data[0]}")
        if len(data) < _GREETING and not expects_tls(data):
            return _GREETING
        greeting = bytes(data[: _GREETING * 8])
        raise Misconduct("no AMQP", partial(foreign, greeting=greeting, secret=self._secret))

    def judge_size(self, size: int) -> None:
        """Judge the size of a frame that has begun, before it is collected.

        Args:
            size: that of its contents, in bytes.

        Raises:
            Misconduct: it is too large.
        """
        if size > self.most_frame - OVERHEAD:
            text = f"a frame of {size:,} bytes, when at most {self.most_frame:,} were agreed"
            raise self._misconduct(text)

    def judge(self, frame: bytes) -> bytes:
        """Judge a whole frame.

        Returns:
            what pika should see of it; empty if nothing.

        Raises:
            Misconduct: it may not come, or not now.
        """
        kind, number, size = FRAME.unpack_from(frame)
        if frame[-1] != spec.FRAME_END:
            raise self._misconduct("a frame without its end")
        if self._phase is _Phase.CLOSED:
            return b""
        if number == 0:
            return self._judge_connection(kind, frame, size)
        channel = self._channels.get(number)
        if channel is None:
            raise self._misconduct(f"a frame on channel {number}, which was not opened")
        if kind == spec.FRAME_METHOD:
            return self._judge_method(number, channel, frame)
        if kind == _HEARTBEAT:
            raise self._misconduct("a heartbeat on a channel")
        if channel.is_closed:
            return b""
        if kind == spec.FRAME_BODY:
            return self._judge_body(number, channel, frame, size)
        return self._judge_header(number, channel, frame)

    def _judge_connection(self, kind: int, frame: bytes, size: int) -> bytes:
        phase = self._phase
        if kind == _HEARTBEAT and phase is not _Phase.START:
            if size:
                raise self._misconduct("a heartbeat with contents")
            self._ration.take()
            return frame
        if kind != spec.FRAME_METHOD:
            raise self._misconduct("a heartbeat or a content where a method has to come")
        self._ration.take()
        frame, method = self._decode(frame)
        if not isinstance(method, _CONNECTION_METHODS[phase]):
            detail = f"{method.NAME} instead of {_CONNECTION_METHODS[phase][0].NAME}"
            if phase is _Phase.START:
                detail = f"it began with {method.NAME}"
            elif phase is _Phase.OPEN:
                detail = f"{method.NAME} while the connection is open"
            raise self._misconduct(detail)
        try:
            if isinstance(method, spec.Connection.Start):
                check_start(method.server_properties, method.mechanisms, self._secret)
            elif isinstance(method, spec.Connection.Tune):
                check_frame_max(method.frame_max)
                self.most_frame = min(method.frame_max or self._frame_max, self._frame_max)
        except Unfit as error:
            raise Misconduct(error.detail, error.fault) from None
        self._phase = _NEXT.get(type(method), phase)
        if self._phase is _Phase.CLOSED:
            self.amid += 1
        return frame

    def _judge_method(self, number: int, channel: Channel, frame: bytes) -> bytes:
        if len(frame) < METHOD.size + OVERHEAD:
            raise self._misconduct("a method without a number")
        if channel.stage is not _Stage.METHOD:
            raise self._misconduct("a method in the middle of a content")
        method = METHOD.unpack_from(frame, FRAME.size)[0]
        if channel.is_closed:
            # If both sides close a channel at the same time, pika waits for this.
            is_answer = method == spec.Channel.CloseOk.INDEX and channel.is_open
            channel.is_open = channel.is_open and not is_answer
            return frame if is_answer else b""
        if not channel.is_open and method not in _LIFE:
            raise self._misconduct(f"{_name_of(method)} on channel {number} before it is open")
        if method == _DELIVER:
            self._judge_deliver(number, channel, frame)
        elif method == _RETURN:
            owed = channel.owed
            if owed is None or not owed.note_return():
                raise self._misconduct(
                    f"Basic.Return on channel {number} of what was not published"
                )
            _check_strings(frame, _ARGUMENTS + 2, 3)
            self._begin_content(channel, owed.most_returned, owed.most_returned)
        elif method in _CONFIRMS:
            if not _is_confirm(channel.owed, frame):
                raise self._misconduct(
                    f"{_name_of(method)} on channel {number} that confirms nothing"
                )
        elif method in _CONTROL:
            self._ration.take()
            frame, _ = self._decode(frame)
            if method == spec.Channel.OpenOk.INDEX:
                channel.is_open = True
            elif method in _LIFE:
                channel.is_closed = True
                channel.is_open = method == spec.Channel.Close.INDEX
        else:
            raise self._misconduct(f"{_name_of(method)}, which no broker sends here")
        return frame

    def _judge_deliver(self, number: int, channel: Channel, frame: bytes) -> None:
        size = frame[_ARGUMENTS]
        most = channel.consumers.get(frame[_ARGUMENTS + 1 : _ARGUMENTS + 1 + size])
        if most is None:
            raise self._misconduct(
                f"Basic.Deliver on channel {number} to a consumer that is not there"
            )
        # The tag, bits, exchange and routing key.
        _check_strings(frame, _ARGUMENTS + 1 + size + 9, 2)
        self._begin_content(channel, MOST_BODY, most)

    def _begin_content(self, channel: Channel, limit: int, most_kept: int) -> None:
        channel.stage = _Stage.HEADER
        channel.limit, channel.most_kept = limit, most_kept
        self.amid += 1

    def _end_content(self, channel: Channel) -> None:
        channel.stage = _Stage.METHOD
        self.amid -= 1

    def _judge_header(self, number: int, channel: Channel, frame: bytes) -> bytes:
        if channel.stage is not _Stage.HEADER:
            raise self._misconduct(f"a content header on channel {number} that belongs to nothing")
        size = header_size(frame)
        if size < 0:
            raise self._misconduct("a content header that cannot be read")
        if size > channel.limit:
            raise self._misconduct(
                f"a message of {size:,} bytes, where none has more than {channel.limit:,}"
            )
        keep = min(size, channel.most_kept + 1)
        channel.left, channel.keep = size, keep
        channel.parts = most_parts(size)
        if size:
            channel.stage = _Stage.BODY
        else:
            self._end_content(channel)
        return bare_header(number, keep)

    def _judge_body(self, number: int, channel: Channel, frame: bytes, size: int) -> bytes:
        if channel.stage is not _Stage.BODY:
            raise self._misconduct(f"a body on channel {number} that belongs to nothing")
        if not 0 < size <= channel.left:
            raise self._misconduct(
                f"a part of {size:,} bytes of a body that lacks {channel.left:,}"
            )
        channel.parts -= 1
        if channel.parts < 0:
            raise self._misconduct("a body in tiny parts")
        kept = min(size, channel.keep)
        channel.left -= size
        channel.keep -= kept
        if not channel.left:
            self._end_content(channel)
        if kept == size:
            return frame
        return body_frame(number, frame[FRAME.size : FRAME.size + kept]) if kept else b""

    def _decode(self, frame: bytes) -> tuple[bytes, Any]:
        """The method of a frame, by pika, and the frame, in which what is no text is replaced."""
        try:
            _, decoded = pika.frame.decode_frame(frame)
            method = decoded.method
            if not isinstance(method, spec.Connection.Start) and _mend(method):
                frame = decoded.marshal()
            return frame, method
        except Exception as error:  # malformed bytes can make a decoder raise anything
            detail = f"a method that cannot be decoded ({type(error).__name__})"
            raise self._misconduct(detail) from error

    def _misconduct(self, detail: str) -> Misconduct:
        """What cannot go on; who has not introduced itself as RabbitMQ is not called so."""
        if self._phase is _Phase.START:
            return Misconduct(detail, partial(faults.not_rabbitmq, detail=detail))
        return Misconduct(detail)


def _is_confirm(owed: Owed | None, frame: bytes) -> bool:
    """Whether a confirm is of something that was published."""
    if owed is None or len(frame) != _ARGUMENTS + TAGGED.size:
        return False
    tag, bits, _ = TAGGED.unpack_from(frame, _ARGUMENTS)
    return owed.note_confirm(tag, multiple=bool(bits & 1))


def most_parts(body_size: int) -> int:
    """In how many parts a body of a size may come."""
    return _FEW_PARTS + body_size // _MEAN_PART


def _check_strings(frame: bytes, at: int, count: int) -> None:
    """Check that a method ends with so many short strings, which begin at a place."""
    try:
        for _ in range(count):
            at += 1 + frame[at]
    except IndexError:
        at = -1
    if at != len(frame) - 1:
        raise Misconduct("a method that cannot be decoded")


def _mend(method: Any) -> bool:
    """Replace what is no text in a method: pika leaves it as bytes, which nobody expects.

    RabbitMQ itself sends such a thing when it cuts a text in the middle of a character.
    """
    broken = {name: text for name, text in vars(method).items() if isinstance(text, bytes)}
    for name, text in broken.items():
        mended = text.decode(errors="replace").encode()[:_LONGEST_NAME]
        setattr(method, name, mended.decode(errors="ignore"))
    return bool(broken)


def _name_of(method: int) -> str:
    """The name of a method, for an error."""
    known = spec.methods.get(method)
    return (
        str(known.NAME)
        if known is not None
        else f"the unknown method {method >> 16}.{method & 0xFFFF}"
    )


class _Ration:
    """Lets so many frames pass at once, and then so many in each second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(_CONTROL_AT_ONCE)
        self._since_s = clock()

    def take(self) -> None:
        """Let one more pass.

        Raises:
            Misconduct: it is one too many.
        """
        if self._left < 1.0:
            now_s = self._clock()
            earned = (now_s - self._since_s) * _CONTROL_PER_S
            self._left = min(float(_CONTROL_AT_ONCE), self._left + earned)
            self._since_s = now_s
            if self._left < 1.0:
                raise Misconduct(
                    f"more than {_CONTROL_AT_ONCE:,} frames that are neither messages nor confirms"
                )
        self._left -= 1.0
