"""TCP servers that are not RabbitMQ, but silent, garbled or hostile, for the tests of the scout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from pika import spec

from miros_rabbitmq.urls import Address

HOST = "127.0.0.9"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Fakes:
    """Runs fake servers in one thread; keeps every byte that was sent to them."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake servers")

    def listen(
        self, handler: Handler, host: str = HOST, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> Address:
        """Serve every connection to a free port (or the given one) by a handler."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
            writer.close()

        async def start() -> Address:
            server = await asyncio.start_server(serve, host, port, ssl=tls, backlog=512)
            self._servers.append(server)
            name = server.sockets[0].getsockname()
            return Address(name[0], name[1])

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(20)

    def call(self, callback: Callable[[], object]) -> None:
        """Call something in the thread of the servers."""
        self._loop.call_soon_threadsafe(callback)

    def sending(self, data: bytes, *, hang_up: bool = False) -> Address:
        """A server that answers the first bytes with ``data``, then only listens, or hangs up."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.received += await reader.read(8)
            writer.write(data)
            await writer.drain()
            if not hang_up:
                await self.keep_listening(reader)

        return self.listen(handler)

    def silent(self, host: str = HOST, port: int = 0) -> Address:
        """A tarpit: accepts, and never says a word."""

        async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await self.keep_listening(reader)

        return self.listen(handler, host, port)

    async def keep_listening(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(4096):
            self.received += data

    @contextlib.contextmanager
    def running(self) -> Iterator[Fakes]:
        self._thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(20)
            self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame that a client sends, whole."""
    head = await reader.readexactly(spec.FRAME_HEADER_SIZE)
    size = int.from_bytes(head[3:], "big")
    return head + await reader.readexactly(size + spec.FRAME_END_SIZE)


def closed_port(host: str = HOST) -> Address:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return Address(host, probe.getsockname()[1])
