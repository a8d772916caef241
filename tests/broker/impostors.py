"""Programs that pose as RabbitMQ: they take any password, open everything, and then do harm.

Run as ``python -m tests.broker.impostors MANNER HOST [HOST ...]`` in a process of its own, or use
`Impostors` for one in a thread. It needs no broker and no key, like any stranger on a LAN.
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


class _Guest:
    """One connection to an impostor."""

    def __init__(self, impostors: Impostors, writer: asyncio.StreamWriter) -> None:
        self._impostors = impostors
        self._manner = impostors.manner
        self._writer = writer
        self._tags: dict[int, int] = {}
        self._confirmed: dict[int, int] = {}
        self._returns: dict[int, Any] = {}

    def _say(self, channel: int, method: Any) -> None:
        self._writer.write(pika.frame.Method(channel, method).marshal())

    async def serve(self, reader: asyncio.StreamReader) -> None:
        await reader.readexactly(8)
        properties = {
            "product": "RabbitMQ",
            "version": "3.12.1",
            "cluster_name": "rabbit@raspberrypi",
            "capabilities": {
                "basic.nack": True,
                "publisher_confirms": True,
                "connection.blocked": True,
                "consumer_cancel_notify": True,
                "authentication_failure_close": True,
            },
        }
        self._say(0, spec.Connection.Start(server_properties=properties, mechanisms="PLAIN"))
        while True:
            head = await reader.readexactly(7)
            size = int.from_bytes(head[3:7], "big")
            _, frame = pika.frame.decode_frame(head + await reader.readexactly(size + 1))
            if isinstance(frame, pika.frame.Method):
                if not self._answer(frame.channel_number, frame.method):
                    return
            elif isinstance(frame, pika.frame.Body):
                self._take(frame.channel_number, frame.fragment)
            elif isinstance(frame, pika.frame.Heartbeat):
                self._writer.write(pika.frame.Heartbeat().marshal())
            await self._writer.drain()

    def _answer(self, channel: int, method: Any) -> bool:
        manner = self._manner
        if isinstance(method, spec.Connection.StartOk):
            self._impostors.logins += 1
            self._say(0, spec.Connection.Tune(2047, 131072, 10))
        elif isinstance(method, spec.Connection.Open):
            self._say(0, spec.Connection.OpenOk())
        elif isinstance(method, spec.Connection.Close):
            if manner is not Manner.STAYS:
                self._say(0, spec.Connection.CloseOk())
                return False
        elif isinstance(method, spec.Channel.Open):
            if manner is not Manner.HANGS:
                self._say(channel, spec.Channel.OpenOk())
        elif isinstance(method, spec.Channel.Close):
            self._say(channel, spec.Channel.CloseOk())
        elif isinstance(method, spec.Exchange.Declare):
            self._say(channel, spec.Exchange.DeclareOk())
        elif isinstance(method, spec.Queue.Declare):
            self._say(channel, spec.Queue.DeclareOk(method.queue or "q", 0, 0))
        elif isinstance(method, spec.Queue.Bind):
            self._say(channel, spec.Queue.BindOk())
        elif isinstance(method, spec.Basic.Qos):
            self._say(channel, spec.Basic.QosOk())
        elif isinstance(method, spec.Basic.Consume):
            self._say(channel, spec.Basic.ConsumeOk(method.consumer_tag or "c"))
        elif isinstance(method, spec.Confirm.Select):
            self._say(channel, spec.Confirm.SelectOk())
            self._impostors.visits += 1
            if manner is Manner.BLOCKS:
                self._say(0, spec.Connection.Blocked("low on memory"))
            if manner is Manner.PULSES:
                asyncio.get_running_loop().call_later(PULSE_S, self._pulse)
            if manner is Manner.CLOSES:
                asyncio.get_running_loop().call_later(CLOSES_AFTER_S, self._writer.close)
        elif isinstance(method, spec.Basic.Publish):
            self._tags[channel] = self._tags.get(channel, 0) + 1
            self._returns[channel] = method
        return True

    def _pulse(self) -> None:
        for channel, tag in self._tags.items():
            if tag > self._confirmed.get(channel, 0):
                self._confirmed[channel] = tag
                self._say(channel, spec.Basic.Ack(tag, multiple=True))
        if not self._writer.is_closing():
            asyncio.get_running_loop().call_later(PULSE_S, self._pulse)

    def _take(self, channel: int, body: bytes) -> None:
        manner, tag = self._manner, self._tags.get(channel, 0)
        self._impostors.messages += 1
        if manner is Manner.RETURNS and self._returns[channel].mandatory:
            method = self._returns[channel]
            self._say(
                channel, spec.Basic.Return(312, "NO_ROUTE", method.exchange, method.routing_key)
            )
            header = pika.frame.Header(channel, len(body), spec.BasicProperties())
            self._writer.write(header.marshal() + pika.frame.Body(channel, body).marshal())
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
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="impostors")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await _Guest(self, writer).serve(reader)
        writer.close()

    async def open(self) -> None:
        for address in self.addresses:
            self._servers.append(
                await asyncio.start_server(self._serve, address.host, address.port, backlog=512)
            )

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Impostors]:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.open(), self._loop).result(20)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(20)
            self._loop.close()


async def _forever(impostors: Impostors) -> None:
    await impostors.open()
    print("ready", flush=True)
    await asyncio.Event().wait()


def main(manner: str, *hosts: str) -> None:
    """Serve until the process is ended."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_forever(Impostors(Manner[manner], hosts)))


if __name__ == "__main__":
    main(*sys.argv[1:])
