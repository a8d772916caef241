"""A relay that stands between a node and its broker, and harms what passes it.

Nodes are given the relay's address for the broker's. It can cut connections, now or at a byte of
one's choice or for the node alone; let either direction vanish while the connection stays open, or
the confirms alone; and be a thin link, with the rate, delay, jitter and loss of one's choice.
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

from .confirms import ConfirmFilter
from .thin_link import Bucket, Pipe, Shape, Way, keep_small

T = TypeVar("T")


class Direction(enum.Enum):
    """The direction in which bytes go."""

    TO_BROKER = "to the broker"
    TO_NODE = "to the node"


class _Link:
    """One relayed connection: two sockets, and what happens to the bytes between them."""

    def __init__(
        self,
        node: socket.socket,
        broker: socket.socket,
        ways: dict[Direction, Way],
        silent: set[Direction],
        cut_at: int,
        on_cut: Callable[[], None],
    ) -> None:
        self.node, self.broker = node, broker
        self._ways = dict(ways)
        self.silent = set(silent)
        self.confirms = ConfirmFilter()
        self.is_cut = self.is_half_open = False
        self._cut_at, self._on_cut = cut_at, on_cut
        self._passed = 0
        self._pipes: list[Pipe] = []
        self._carrying: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Carry bytes both ways until either side closes, or the link is cut."""
        if not (self.is_cut or self.is_half_open):
            await self._carry()
        if self.is_half_open:
            self.node.close()
            while await asyncio.get_running_loop().sock_recv(self.broker, 65_536):
                pass

    async def _carry(self) -> None:
        self._pipes = [
            Pipe(self.node, self.broker, self._ways[Direction.TO_BROKER], self._to_broker),
            Pipe(self.broker, self.node, self._ways[Direction.TO_NODE], self._to_node),
        ]
        self._carrying = [asyncio.ensure_future(pipe.run()) for pipe in self._pipes]
        try:
            await asyncio.wait(self._carrying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in self._carrying:
                one.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self) -> None:
        """Reset both ends, like a router that has forgotten the connection."""
        self.is_cut = True
        self._reset(self.node, self.broker)

    def cut_on_the_nodes_side(self) -> None:
        """Reset the node's end, and let the broker notice by itself."""
        self.is_half_open = True
        self._reset(self.node)

    def _reset(self, *sockets: socket.socket) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for one in self._carrying:
            one.cancel()

    def spare(self) -> None:
        """Be a link without limits from now on, whatever the others become."""
        self._ways = {one: Way() for one in Direction}
        for pipe, way in zip(self._pipes, self._ways.values(), strict=False):
            pipe.way = way

    def _to_broker(self, data: bytes) -> bytes:
        return b"" if Direction.TO_BROKER in self.silent else data

    def _to_node(self, data: bytes) -> bytes:
        if self.is_cut or Direction.TO_NODE in self.silent:
            return b""
        data = self.confirms.feed(data)
        self._passed += len(data)
        if self._cut_at and self._passed >= self._cut_at:
            # After the bytes before it have been written.
            self.is_cut = True
            self._on_cut()
            asyncio.get_running_loop().call_soon(self.cut)
            return data[: len(data) - (self._passed - self._cut_at)]
        return data


class FaultProxy:
    """Relays connections to one broker, and harms them as it is told. Any thread may use it.

    Args:
        host: the loopback address to listen on, IPv4 or IPv6; the port is chosen.
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
        self._are_confirms_silent = False
        self._refuses = False
        self._cut_at: list[int] = []
        self.connections = 0
        """How many were accepted so far."""
        self.cuts = 0
        """How many were cut."""
        self.address = Address(host, 0)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._ways = {one: Way() for one in Direction}
        self._server = self._listen()
        name = self._server.getsockname()
        self.address = Address(name[0], name[1])
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._accepting.cancel()
        self._run(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        self._server.close()

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

    def silence_confirms(self) -> None:
        """Drop what the broker confirms until `heal`, and let all else pass."""
        self._set_confirms(are_silent=True)

    def refuse(self) -> None:
        """Cut every connection, and each new one at once, until `heal`: nobody is at home."""
        self._refuses = True
        self.cut()

    @property
    def confirms_dropped(self) -> int:
        """How many methods that confirm or refuse were dropped, of the present connections."""
        return sum(link.confirms.dropped for link in list(self._links))

    def shape(self, to_broker: Shape, to_node: Shape) -> None:
        """Be a link of this shape from now on, all connections together."""

        async def shape() -> None:
            self._ways[Direction.TO_BROKER].shape = to_broker
            self._ways[Direction.TO_NODE].shape = to_node

        self._run(shape)

    def slow_down(
        self,
        *,
        delay_s: float = 0.0,
        bytes_a_second: float = 0.0,
        jitter_s: float = 0.0,
        loss: float = 0.0,
    ) -> None:
        """Be such a link in both directions, each with this rate for itself; 0 is no limit."""
        to_broker, to_node = (
            Shape(Bucket(bytes_a_second) if bytes_a_second else None, delay_s, jitter_s, loss)
            for _ in Direction
        )
        self.shape(to_broker, to_node)

    def pause(self, *directions: Direction) -> None:
        """Let nothing pass in these directions, or in any, until `heal`. Nothing is lost."""

        async def pause() -> None:
            for one in directions or Direction:
                self._ways[one].pause()

        self._run(pause)

    def spare_present(self) -> None:
        """Let shapes and pauses leave alone who is connected now: the broker's own machine."""

        async def spare() -> None:
            for link in self._links:
                link.spare()

        self._run(spare)

    def lead_to(self, target: Address) -> None:
        """Forward new connections to another broker, and reset those to the former one."""
        self._target = target
        self.cut()

    def heal(self) -> None:
        """Do no more harm. Connections that went silent stay silent: their bytes are lost."""
        self._silent = set()
        self._cut_at = []
        self._refuses = False
        self._set_confirms(are_silent=False)
        self.slow_down()

        async def resume() -> None:
            for way in self._ways.values():
                way.resume()

        self._run(resume)

    def _set_confirms(self, *, are_silent: bool) -> None:
        async def set_them() -> None:
            self._are_confirms_silent = are_silent
            for link in self._links:
                link.confirms.is_closed = are_silent

        self._run(set_them)

    def _run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result(20)

    def _listen(self) -> socket.socket:
        server = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        keep_small(server)
        server.bind((self._host, 0))
        server.listen(256)
        return server

    async def _accept(self) -> None:
        while True:
            node, _ = await self._loop.sock_accept(self._server)
            task = asyncio.ensure_future(self._serve(node))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, node: socket.socket) -> None:
        self.connections += 1
        cut_at = self._cut_at.pop(0) if self._cut_at else 0
        broker = socket.socket()
        link = _Link(node, broker, self._ways, self._silent, cut_at, self._count_cut)
        link.confirms.is_closed = self._are_confirms_silent
        self._links.add(link)
        try:
            if self._refuses:
                link.cut()
                return
            keep_small(broker)
            await self._loop.sock_connect(broker, tuple(self._target))
            await link.run()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(link)
            node.close()
            broker.close()

    def _count_cut(self) -> None:
        self.cuts += 1

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
