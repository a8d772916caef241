"""Programs that pose as RabbitMQ: they take any password, open everything, and then do harm.

Run as ``python -m tests.broker.impostors MANNER HOST [HOST ...]`` in a process of its own, or use
`Impostors` for some in a thread. They need no broker and no key, like any stranger on a LAN. They
keep to AMQP; those of `false_brokers` do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pika.frame
from pika import spec

from miros_rabbitmq.urls import Address

from ..amqp import CAPABILITIES, answer_to, body, header, method, start_with
from .fakes import Fakes, read_frame

PORT = 5672


class Manner(enum.Enum):
    """What an impostor does with what it is sent."""

    MUTE = "confirms nothing"
    FEW = "confirms a few messages and then none"
    TAKES = "confirms everything and passes nothing on"
    RETURNS = "returns everything as unroutable, and confirms it"
    NACKS = "refuses everything"
    BLOCKS = "says that it is blocked, and confirms nothing"
    CLOSES = "closes each connection soon after it was set up"
    HANGS = "opens no channel"
    PULSES = "confirms everything, but only now and then"
    STAYS = "confirms nothing, and does not answer when we close"


FEW = 3
CLOSES_AFTER_S = 0.05
PULSE_S = 4.0
"""Less than ``Limits.absent_after_s``, so that it does not count as absent."""


START = start_with(capabilities=CAPABILITIES, cluster_name="rabbit@raspberrypi")
TUNE = method(spec.Connection.Tune(2_047, 131_072, 10))


class _Guest:
    """One connection to an impostor."""

    def __init__(self, impostors: Impostors, writer: asyncio.StreamWriter) -> None:
        self._impostors = impostors
        self._manner = impostors.manner
        self._writer = writer
        self._tags: dict[int, int] = {}
        self._confirmed: dict[int, int] = {}
        self._published: dict[int, spec.Basic.Publish] = {}

    def _say(self, channel: int, what: Any) -> None:
        self._writer.write(method(what, channel))

    async def serve(self, reader: asyncio.StreamReader) -> None:
        await reader.readexactly(8)
        self._writer.write(START)
        while True:
            _, frame = pika.frame.decode_frame(await read_frame(reader))
            if isinstance(frame, pika.frame.Method):
                if not self._answer(frame.channel_number, frame.method):
                    return
            elif isinstance(frame, pika.frame.Body):
                self._take(frame.channel_number, frame.fragment)
            elif isinstance(frame, pika.frame.Heartbeat):
                self._writer.write(pika.frame.Heartbeat().marshal())
            await self._writer.drain()

    def _answer(self, channel: int, asked: Any) -> bool:
        """Answer a method; tell whether the connection goes on."""
        manner = self._manner
        if isinstance(asked, spec.Connection.StartOk):
            self._impostors.logins += 1
            self._writer.write(TUNE)
        elif isinstance(asked, spec.Connection.Open):
            self._say(0, spec.Connection.OpenOk())
        elif isinstance(asked, spec.Basic.Publish):
            self._tags[channel] = self._tags.get(channel, 0) + 1
            self._published[channel] = asked
        elif not self._ignores(asked):
            self._writer.write(answer_to(asked, channel))
        if isinstance(asked, spec.Confirm.Select):
            self._impostors.visits += 1
            if manner is Manner.BLOCKS:
                self._say(0, spec.Connection.Blocked("low on memory"))
            if manner is Manner.PULSES:
                asyncio.get_running_loop().call_later(PULSE_S, self._pulse)
            if manner is Manner.CLOSES:
                asyncio.get_running_loop().call_later(CLOSES_AFTER_S, self._writer.close)
        return not isinstance(asked, spec.Connection.Close) or self._ignores(asked)

    def _pulse(self) -> None:
        for channel, tag in self._tags.items():
            if tag > self._confirmed.get(channel, 0):
                self._confirmed[channel] = tag
                self._say(channel, spec.Basic.Ack(tag, multiple=True))
        if not self._writer.is_closing():
            asyncio.get_running_loop().call_later(PULSE_S, self._pulse)

    def _ignores(self, asked: Any) -> bool:
        if isinstance(asked, spec.Connection.Close):
            return self._manner is Manner.STAYS
        return isinstance(asked, spec.Channel.Open) and self._manner is Manner.HANGS

    def _take(self, channel: int, message: bytes) -> None:
        manner, tag, asked = self._manner, self._tags[channel], self._published[channel]
        self._impostors.messages += 1
        if manner is Manner.RETURNS and asked.mandatory:
            self._say(
                channel, spec.Basic.Return(312, "NO_ROUTE", asked.exchange, asked.routing_key)
            )
            self._writer.write(header(channel, len(message)) + body(channel, message))
        if manner is Manner.NACKS:
            self._say(channel, spec.Basic.Nack(tag))
        elif manner in (Manner.TAKES, Manner.RETURNS) or (manner is Manner.FEW and tag <= FEW):
            self._say(channel, spec.Basic.Ack(tag))


class Impostors:
    """Impostors of one manner at one or more addresses, in a thread.

    Attributes:
        visits: how many connections were set up to publish.
        logins: how many passwords were taken.
        messages: how many were swallowed.
    """

    def __init__(self, manner: Manner, hosts: Sequence[str], port: int = PORT) -> None:
        self.manner = manner
        self.addresses = [Address(host, port) for host in hosts]
        self.visits = self.logins = self.messages = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Guest(self, writer).serve(reader)

    @contextlib.contextmanager
    def running(self) -> Iterator[Impostors]:
        fakes = Fakes()
        with fakes.running():
            for address in self.addresses:
                fakes.listen(self._serve, address.host, address.port)
            yield self


def main(manner: str, *hosts: str) -> None:
    """Serve until the process is ended."""
    with contextlib.suppress(KeyboardInterrupt), Impostors(Manner[manner], hosts).running():
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
