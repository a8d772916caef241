"""A TCP proxy that stands between a node and its broker and harms what passes it.

Nodes are given the proxy's address for the broker's. It can cut connections, now or at a byte of
one's choice or for the node alone, let either direction vanish while the connection stays open,
delay, and throttle.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from miros_rabbitmq.urls import Address

T = TypeVar("T")

CHUNK_BYTES = 16 * 1024


class Direction(enum.Enum):
    """The direction in which bytes go."""

    TO_BROKER = "to the broker"
    TO_NODE = "to the node"


class _Link:
    """One proxied connection: two streams, and the directions in which its bytes vanish."""

    def __init__(self, node: asyncio.StreamWriter, silent: set[Direction]) -> None:
        self.writers = [node]
        self.silent = set(silent)
        self.is_half_open = False

    def cut(self) -> None:
        """Reset both ends, like a router that has forgotten the connection."""
        self._reset(self.writers)

    def cut_on_the_nodes_side(self) -> None:
        """Reset the node's end, and let the broker notice by itself."""
        self.is_half_open = True
        self._reset(self.writers[:1])

    def _reset(self, writers: list[asyncio.StreamWriter]) -> None:
        for writer in writers:
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class FaultProxy:
    """Forwards connections to one broker, and harms them as it is told. Any thread may use it.

    Args:
        host: the loopback address to listen on; the port is chosen.
        target: the broker.
    """

    def __init__(self, host: str, target: Address) -> None:
        self._target = target
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy on {host}")
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[Direction] = set()
        self._delay_s = 0.0
        self._bytes_a_second = 0.0
        self._cut_at: list[int] = []
        self.connections = 0
        """How many were accepted so far."""
        self.cuts = 0
        """How many were cut."""
        self.address = Address(host, 0)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._server = self._run(self._listen)
        name = self._server.sockets[0].getsockname()
        self.address = Address(name[0], name[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def open_connections(self) -> int:
        """How many pass it now."""
        return len(self._links)

    def cut(self) -> int:
        """Reset every connection; returns how many."""

        async def cut() -> int:
            links = list(self._links)
            for link in links:
                link.cut()
            self.cuts += len(links)
            return len(links)

        return self._run(cut)

    def cut_on_the_nodes_side(self) -> int:
        """Reset every connection for the node; for the broker, it stays open and goes silent.

        Returns:
            how many.
        """

        async def cut() -> int:
            links = list(self._links)
            for link in links:
                link.cut_on_the_nodes_side()
            return len(links)

        return self._run(cut)

    def cut_at(self, *numbers: int) -> None:
        """Cut the next connections, one after the other, each at that byte from the broker."""
        self._cut_at = list(numbers)

    @property
    def cuts_pending(self) -> int:
        """How many cuts of `cut_at` have not happened yet."""
        return len(self._cut_at)

    def silence(self, *directions: Direction) -> None:
        """Drop all bytes of present connections for ever, and of new ones until `heal`."""

        async def silence() -> None:
            self._silent = set(directions)
            for link in self._links:
                link.silent |= self._silent

        self._run(silence)

    def slow_down(self, *, delay_s: float = 0.0, bytes_a_second: float = 0.0) -> None:
        """Delay each chunk, and let no more than so many bytes pass; 0 is no limit."""
        self._delay_s, self._bytes_a_second = delay_s, bytes_a_second

    def lead_to(self, target: Address) -> None:
        """Forward new connections to another broker, and reset those to the former one."""
        self._target = target
        self.cut()

    def heal(self) -> None:
        """Do no more harm. Connections that went silent stay silent: their bytes are lost."""
        self._silent = set()
        self._cut_at = []
        self.slow_down()

    def _run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, self._host, 0, backlog=256)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        link = _Link(writer, self._silent)
        self._links.add(link)
        cut_at = self._cut_at.pop(0) if self._cut_at else 0
        try:
            broker_reader, broker_writer = await asyncio.open_connection(*self._target)
            link.writers.append(broker_writer)
            await asyncio.gather(
                self._pump_from_node(link, reader, broker_writer),
                self._pump(link, broker_reader, writer, Direction.TO_NODE, cut_at),
            )
        except (OSError, asyncio.CancelledError, EOFError):
            pass
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            for one in link.writers:
                one.transport.abort()

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        cut_at: int,
    ) -> None:
        passed = 0
        while data := await reader.read(CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._bytes_a_second:
                await asyncio.sleep(len(data) / self._bytes_a_second)
            if direction in link.silent or link.is_half_open:
                continue
            if cut_at and passed + len(data) >= cut_at:
                writer.write(data[: cut_at - passed])
                self.cuts += 1
                link.cut()
                raise EOFError
            passed += len(data)
            writer.write(data)
            try:
                await writer.drain()
            except OSError:
                if not link.is_half_open:
                    raise
        raise EOFError

    async def _pump_from_node(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._pump(link, reader, writer, Direction.TO_BROKER, 0)
        except (OSError, EOFError):
            if not link.is_half_open:
                raise

    async def _close(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
