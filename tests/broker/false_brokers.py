"""False brokers: they speak AMQP up to some method, and then send what no broker sends.

The programs of `impostors` keep to AMQP and do harm; these do not keep to it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pika.frame
from pika import spec

from miros_rabbitmq.urls import Address

from ..amqp import DIALOGUE, answer_to, method
from .fakes import Fakes, read_frame

Attack = Callable[[int, str], Iterator[bytes]]
"""What a false broker sends, given the channel and the consumer's tag; maybe without an end."""

_GREETING_BYTES = 8


class FalseBroker:
    """A broker without queues: it answers whatever it is asked, and attacks after some method.

    What it attacks after is answered, too, except that a message is not confirmed before.

    Args:
        fakes: runs it.
        after: the method after which it attacks.
        attack: what it then sends; nothing by default.
        dialogue: what it sends for ``Start``, ``Tune`` and ``OpenOk``.
        tls: the context of a server with TLS.
    """

    def __init__(
        self,
        fakes: Fakes,
        after: type[Any] | None = None,
        attack: Attack | None = None,
        *,
        dialogue: tuple[bytes, bytes, bytes] = DIALOGUE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connections = 0
        self.sent = 0
        """Bytes of the attack."""
        self.published = 0
        self.received: list[Any] = []
        """All methods that clients have sent."""
        self._logins: list[tuple[bytes, bytes]] = []
        self._fakes = fakes
        self._after = after
        self._attack = attack
        self.start, self._tune, self._open_ok = dialogue
        self._writers: set[asyncio.StreamWriter] = set()
        self.address: Address = fakes.listen(self._serve, tls=tls)

    def passwords(self, start: bytes | None = None) -> list[bytes]:
        """What clients have sent to log in; only those that got this ``Start`` if one is given."""
        return [login for login, got in list(self._logins) if start in (None, got)]

    def hang_up(self) -> None:
        """Close all connections."""
        for writer in list(self._writers):
            self._fakes.call(writer.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._fakes.received += await reader.readexactly(_GREETING_BYTES)
        self._writers.add(writer)
        start = self.start
        writer.write(start)
        tag = ""
        while True:
            whole = await read_frame(reader)
            self._fakes.received += whole
            _, frame = pika.frame.decode_frame(whole)
            if not isinstance(frame, pika.frame.Method):
                continue
            what, channel = frame.method, frame.channel_number
            self.received.append(what)
            if isinstance(what, spec.Connection.StartOk):
                self._logins.append((what.response, start))
            if isinstance(what, spec.Basic.Consume):
                tag = what.consumer_tag
            if self._after is not spec.Basic.Publish or type(what) is not spec.Basic.Publish:
                writer.write(self._answer(what, channel))
            if self._after is not None and isinstance(what, self._after):
                assert self._attack is not None
                for data in self._attack(channel, tag):
                    writer.write(data)
                    self.sent += len(data)
                    await writer.drain()

    def _answer(self, what: Any, channel: int) -> bytes:
        if isinstance(what, spec.Connection.StartOk):
            return self._tune
        if isinstance(what, spec.Connection.Open):
            return self._open_ok
        if isinstance(what, spec.Basic.Publish):
            self.published += 1
            return method(spec.Basic.Ack(self.published), channel)
        return answer_to(what, channel)


def endlessly(data: bytes, most_bytes: int) -> Iterator[bytes]:
    """The same again and again, some 64 KiB at once, up to a bound for the test's own sake."""
    piece = data * max(1, 65_536 // len(data))
    for _ in range(0, most_bytes, len(piece)):
        yield piece
