"""A thin link, emulated: rate, delay, jitter, loss and standstill of one direction of TCP.

A relay reads from one socket and writes to another. `Pipe` does so as a link of a given `Shape`
would, and keeps hardly anything in between: whoever sends more than the link carries is held up by
TCP after some kilobytes, as on a real one. Loss can be emulated only by what it does to a stream:
it stands still until the lost segment has been sent again.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

BUFFER_BYTES = 4 * 1024
"""What each socket of a relay may hold in each direction; Linux takes it twice."""

SEGMENT_BYTES = 1460
"""As on an Ethernet. Loopback's segments of 64 kB make the kernel of a sender keep megabytes."""

RESENT_AFTER_S = 0.2
"""The least time after which TCP sends a lost segment again (RFC 6298, as Linux does it)."""

PAUSE_S = 0.05
"""A thin link is given so much at once that it is busy for this time."""

LATE_S = 0.02
"""A relay wakes up so late at the most, on a machine that is not busy: that costs no rate."""

LEAST_BYTES, MOST_BYTES = 64, 16 * 1024


class Bucket:
    """The capacity of a link, in bytes a second. Several pipes, also of several relays, may share.

    Any thread may use it. What is not used is kept for `LATE_S` only.
    """

    def __init__(self, bytes_a_second: float) -> None:
        self.bytes_a_second = bytes_a_second
        self._lock = threading.Lock()
        self._free_at_s = 0.0

    def book(self, count: int, now_s: float) -> float:
        """Book a passage for so many bytes; returns when the last of them has passed."""
        with self._lock:
            begins_s = max(self._free_at_s, now_s - LATE_S)
            self._free_at_s = begins_s + count / self.bytes_a_second
            return self._free_at_s


class Shape(NamedTuple):
    """What a link is like in one direction.

    Args:
        bucket: its rate; None is no limit.
        delay_s: how long each byte is under way.
        jitter_s: up to so much more, at random; bytes stay in their order.
        loss: the part of the segments of 1,460 bytes that are lost.
    """

    bucket: Bucket | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    @property
    def chunk_bytes(self) -> int:
        """How much is put on the link at once."""
        if self.bucket is None:
            return MOST_BYTES
        return int(min(MOST_BYTES, max(LEAST_BYTES, self.bucket.bytes_a_second * PAUSE_S)))

    @property
    def held_bytes(self) -> int:
        """The most that is under way: what the link carries within its delay."""
        if self.bucket is None:
            return 4 * MOST_BYTES
        delayed = self.bucket.bytes_a_second * (self.delay_s + self.jitter_s)
        return int(self.chunk_bytes + delayed)

    def delay(self, count: int) -> float:
        """Draw how long these bytes are under way, in seconds."""
        delay_s = self.delay_s + random.uniform(0.0, self.jitter_s)
        if self.loss:
            segments = -(-count // SEGMENT_BYTES)
            lost = sum(random.random() < self.loss for _ in range(segments))
            delay_s += lost * (RESENT_AFTER_S + 2 * self.delay_s)
        return delay_s


class Way:
    """One direction of a link, for all connections that pass it. Used in the relay's loop only."""

    def __init__(self) -> None:
        self.shape = Shape()
        self._moves = asyncio.Event()
        self._moves.set()

    def pause(self) -> None:
        """Let nothing pass."""
        self._moves.clear()

    def resume(self) -> None:
        """Go on."""
        self._moves.set()

    async def wait_while_paused(self) -> None:
        await self._moves.wait()


class Pipe:
    """One direction of one connection, from a socket to another.

    Args:
        source: read from, without blocking.
        sink: written to, without blocking.
        way: what it passes; may be changed meanwhile.
        change: called with the bytes that have passed; returns those that come out.
    """

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        way: Way,
        change: Callable[[bytes], bytes],
    ) -> None:
        self.way = way
        self._source, self._sink, self._change = source, sink, change
        self._loop = asyncio.get_running_loop()
        self._line: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._moved = asyncio.Condition()

    async def run(self) -> None:
        """Carry bytes until the source ends.

        Raises:
            EOFError: the source has ended, and what it sent is written; or ``change`` says so.
            OSError: a socket is broken.
        """
        # Not a task group, which Python 3.10 does not have.
        taking = asyncio.ensure_future(self._take())
        giving = asyncio.ensure_future(self._give())
        try:
            done, _ = await asyncio.wait({taking, giving}, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
            raise EOFError
        finally:
            for one in (taking, giving):
                one.cancel()
            await asyncio.gather(taking, giving, return_exceptions=True)

    async def _take(self) -> None:
        last_s = 0.0
        while True:
            shape = self.way.shape
            async with self._moved:
                await self._moved.wait_for(lambda: self._held_bytes < self.way.shape.held_bytes)
            data = await self._loop.sock_recv(self._source, shape.chunk_bytes)
            is_end = not data
            while data or is_end:
                await self.way.wait_while_paused()
                # It may have changed since.
                shape = self.way.shape
                chunk, data = data[: shape.chunk_bytes], data[shape.chunk_bytes :]
                passed_s = self._loop.time()
                if shape.bucket is not None and chunk:
                    passed_s = shape.bucket.book(len(chunk), passed_s)
                    await self._sleep_until(passed_s)
                last_s = max(last_s, passed_s + shape.delay(len(chunk)))
                async with self._moved:
                    self._held_bytes += len(chunk)
                    self._line.append((last_s, chunk))
                    self._moved.notify_all()
                if is_end:
                    return

    async def _give(self) -> None:
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: self._line)
                due_s, data = self._line.popleft()
            await self._sleep_until(due_s)
            await self.way.wait_while_paused()
            if not data:
                return
            await self._loop.sock_sendall(self._sink, self._change(data))
            async with self._moved:
                self._held_bytes -= len(data)
                self._moved.notify_all()

    async def _sleep_until(self, time_s: float) -> None:
        if (for_s := time_s - self._loop.time()) > 0:
            await asyncio.sleep(for_s)


def keep_small(sock: socket.socket, buffer_bytes: int = BUFFER_BYTES) -> None:
    """Let a socket hold little; before it listens or connects. Accepted ones inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
