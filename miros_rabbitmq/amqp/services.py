"""What pika gets for an I/O loop: the services of one connection, over a lane of the reactor.

Only pika's public interface for loops is used (``pika.adapters.utils.nbio_interface`` and the
adapter for loops of the select kind). One object serves one attempt to connect. It knows the
sockets, timers and calls of that attempt, so that an attempt can be given up as a whole, whatever
state pika is in. `resolve` resolves names, because pika's own resolver starts a thread for each
attempt that is not a daemon, and has no time-out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.utils import nbio_interface
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from ..greeting import GREETING_BYTES
from ..logs import RelayedLogger
from ..resolve import LookUp, Target, look_up
from ..urls import Address
from .conduct import Conduct, Misconduct
from .health import timer_slack_s
from .inflow import Inflow
from .reactor import READ, WRITE, Lane, Timer

try:
    import fcntl
    import termios

    # The same number as SIOCOUTQ of tcp(7); it has this meaning only on Linux.
    _UNSENT = termios.TIOCOUTQ if sys.platform == "linux" else None
except ImportError:  # not on Windows
    _UNSENT = None


logger: RelayedLogger = RelayedLogger(__name__)


class LaneLoop:
    """A lane with the interface of a select loop, as pika's adapter needs it.

    Args:
        lane: the link's.
    """

    READ, WRITE = READ, WRITE
    ERROR = 0
    """Nothing else is watched: Python's selectors report a broken socket as ready, and on Windows
    a connection that failed as writable."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._timers: set[Timer] = set()
        self._handlers: dict[int, Callable[[int, int], object]] = {}
        # Descriptors at which pika has just begun to write, and the events it wants.
        self._to_write: dict[int, int] = {}
        self._is_silent = False
        self.is_aligned = False
        """Whether timers may come a little early, together with others."""
        self.read: Callable[[], bool] | None = None
        """Reads in pika's place, and tells whether it has."""

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call something soon."""
        self._lane.call_soon(lambda: self._call(callback))

    def _call(self, callback: Callable[[], object]) -> None:
        if not self._is_silent:
            callback()
            return
        # The connection was given up: let pika close its socket, and keep errors from others.
        try:
            callback()
        except Exception:
            logger.exception("%s: a connection that was given up raised", self._lane.name)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call something after some seconds."""

        def call() -> None:
            self._timers.discard(timer)
            callback()

        slack_s = timer_slack_s(delay) if self.is_aligned else 0.0
        timer = self._lane.call_later(delay, call, slack_s)
        if self._is_silent:
            self._lane.cancel(timer)
        else:
            self._timers.add(timer)
        return timer

    def remove_timeout(self, timeout_handle: Timer) -> None:
        """Cancel a timer of `call_later`."""
        self._timers.discard(timeout_handle)
        self._lane.cancel(timeout_handle)

    def add_handler(self, fd: int, handler: Callable[[int, int], object], events: int) -> None:
        """Watch a descriptor."""
        if not self._is_silent:
            self._handlers[fd] = handler
            try:
                self._lane.watch(fd, events, self._handle)
            except BaseException:
                del self._handlers[fd]
                raise

    def update_handler(self, fd: int, events: int) -> None:
        """Watch a descriptor for other events.

        pika writes nothing itself: it asks to be called when the socket takes something, which it
        mostly does now. So it is called when it has returned, and the descriptor is watched only if
        something is left.
        """
        if fd not in self._handlers:
            return
        if events & WRITE and events & READ and fd not in self._to_write:
            if not self._to_write:
                self._lane.call_behind(self._write)
            self._to_write[fd] = events
        elif fd in self._to_write:
            self._to_write[fd] = events
        else:
            self._lane.watch(fd, events, self._handle)

    def _write(self) -> None:
        """Let pika write."""
        for fd in list(self._to_write):
            try:
                if self._to_write[fd] & WRITE:
                    self._handle(fd, WRITE)
            finally:
                events = self._to_write.pop(fd, 0)
            if events and fd in self._handlers:
                self._lane.watch(fd, events, self._handle)

    def remove_handler(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self._to_write.pop(fd, None)
        if self._handlers.pop(fd, None) is not None:
            self._lane.unwatch(fd)

    @property
    def descriptors(self) -> list[int]:
        """The watched descriptors."""
        return list(self._handlers)

    def _handle(self, fd: int, events: int) -> None:
        handler = self._handlers.get(fd)
        if handler is None or (events == READ and self.read is not None and self.read()):
            return
        handler(fd, events)

    def fall_silent(self) -> None:
        """Forget all timers and descriptors, and take no more; what was to be called soon, is."""
        self._is_silent = True
        self.read = None
        for fd in list(self._handlers):
            self.remove_handler(fd)
        for timer in list(self._timers):
            self.remove_timeout(timer)

    def start(self) -> None:
        """Refuse: pika must not run or stop this loop."""
        raise NotImplementedError("the reactor runs by itself")

    def stop(self) -> None:
        """Refuse, as `start` does."""
        self.start()

    def close(self) -> None:
        """Refuse, as `start` does."""
        self.start()


class Tap(nbio_interface.AbstractStreamProtocol):  # type: ignore[misc]  # pika has no type hints
    """Stands between a socket and pika: knows the transport, and counts and judges what arrives.

    Args:
        protocol: pika's own.
        conduct: judges each frame.
    """

    def __init__(self, protocol: Any, conduct: Conduct) -> None:
        self.inner = protocol
        self.conduct = conduct
        self.inflow: Inflow = Inflow(conduct, protocol.data_received)
        """Cuts what arrives into frames."""
        self.misconduct: Misconduct | None = None
        """Why the connection could not go on, if it is the peer's fault."""
        self._connection: pika.SelectConnection | None = None
        self.transport: Any = None
        self.received: int = 0
        """Bytes that have arrived."""
        self.greeting: bytes = b""
        """The first of them, which say what kind of program has sent them."""
        self.lost_by: BaseException | None = None
        """The error with which the stream has ended. pika does not always pass it on."""
        self.is_muted: bool = False

    def connection_made(self, transport: Any) -> None:
        """Note the connected transport."""
        self.transport = transport
        self.inner.connection_made(transport)

    def connection_lost(self, error: BaseException | None) -> None:
        """Forget the transport, and tell pika, unless the connection was given up."""
        self.transport = None
        self.lost_by = error
        if not self.is_muted:
            self.inner.connection_lost(error)

    def mute(self) -> None:
        """Let nothing through any more, because the connection was given up."""
        self.is_muted = True
        self.inflow.close()

    def count_for(self, connection: pika.SelectConnection) -> None:
        """Let pika's heartbeat count all bytes that arrive, even of frames kept from pika."""
        self._connection = connection

    def eof_received(self) -> bool:
        """Note that the peer sends nothing more; returns whether to keep the transport open."""
        return not self.is_muted and bool(self.inner.eof_received())

    def data_received(self, data: bytes) -> None:
        """Take what has arrived.

        Raises:
            Misconduct: the peer must not send this. Whoever calls then ends the connection.
        """
        if self.received < GREETING_BYTES:
            self.greeting = (self.greeting + data)[:GREETING_BYTES]
        self.received += len(data)
        if self.is_muted:
            return
        try:
            self.inflow.feed(data)
        except Misconduct as error:
            self.misconduct = error
            raise
        if self._connection is not None:
            self._connection.bytes_received = self.received


class Services(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika has no type hints
    """The I/O services of one attempt to connect, and of the resulting connection.

    Args:
        lane: the link's.
        tap: makes the object between the socket and pika's protocol.
        resolve_timeout_s: how long the name of the host may take to be resolved, in seconds.
    """

    def __init__(
        self,
        lane: Lane,
        tap: Callable[[Any], Tap],
        resolve_timeout_s: float,
    ) -> None:
        self._lane_loop = LaneLoop(lane)
        super().__init__(self._lane_loop)
        self._make_tap = tap
        self._resolve_timeout_s = resolve_timeout_s
        self._sockets: list[socket.socket] = []
        self._pending: Any = None  # what is under way, and can be cancelled
        self.tap: Tap | None = None
        """Between socket and pika, once there is a stream."""

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], object],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve a name, and call back with what `socket.getaddrinfo` returns, or an error."""
        address = Address(host, port)
        self._pending = _NameLookUp(address, self._lane_loop, on_done, self._resolve_timeout_s)
        return self._pending

    def connect_socket(
        self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], object]
    ) -> Any:
        """Connect a socket, as pika's own mixin does, and remember it."""
        self._sockets.append(sock)
        self._pending = super().connect_socket(sock, resolved_addr, on_done)
        return self._pending

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[Any], object],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Any:
        """Make a stream of a connected socket, with a tap before pika's protocol.

        Raises:
            OSError: it is not connected any more: the other host has reset it just now.
        """

        def make_protocol() -> Tap:
            self.tap = self._make_tap(protocol_factory())
            return self.tap

        def done(result: Any) -> None:
            if isinstance(result, tuple):
                transport, tap = result
                result = (transport, tap.inner)
            on_done(result)

        try:
            self._pending = super().create_streaming_connection(
                make_protocol, sock, done, ssl_context, server_hostname
            )
        except ValueError as error:
            # So pika tells that the other side has reset it meanwhile.
            cause = error.__context__
            if isinstance(cause, OSError):
                raise OSError(*cause.args) from error
            raise
        return self._pending

    def read_by(self, read: Callable[[], bool] | None) -> None:
        """Have something else read from the socket of the open connection; see `Wire.open`."""
        self._lane_loop.read = read

    def align_timers(self) -> None:
        """Let the timers of an open connection, its heartbeats, fall together with others."""
        self._lane_loop.is_aligned = True

    @property
    def bytes_received(self) -> int:
        """Bytes that have arrived since the connection was made."""
        return self.tap.received if self.tap is not None else 0

    @property
    def bytes_unsent(self) -> int:
        """Bytes to send that the other host has not acknowledged: pika's, and the kernel's.

        The kernel's are known only on Linux (``SIOCOUTQ`` of tcp(7)).
        """
        transport = self.tap.transport if self.tap is not None else None
        unsent = int(transport.get_write_buffer_size()) if transport is not None else 0
        if _UNSENT is not None:
            # Ask the watched descriptors, not the sockets that were connected: TLS takes over their
            # descriptors, and those of a host's other addresses are closed.
            for fd in self._lane_loop.descriptors:
                with contextlib.suppress(OSError):
                    answer = fcntl.ioctl(fd, _UNSENT, bytes(4))
                    unsent += int.from_bytes(answer, sys.byteorder)
        return unsent

    @property
    def local_host(self) -> str:
        """The IP address at which the connection begins here; empty if it is not known."""
        for fd in self._lane_loop.descriptors:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
                return str(copy.getsockname()[0])
        return ""

    def abort(self) -> None:
        """Give the attempt or the connection up, at once and without the broker's consent.

        The link ignores further callbacks of pika about it.
        """
        transport = None
        if self.tap is not None:
            transport = self.tap.transport
            self.tap.mute()
        # pika may be in any state, and its errors help nobody now.
        with contextlib.suppress(Exception):
            if transport is not None:
                transport.abort()
            elif self._pending is not None:
                self._pending.cancel()
        self._lane_loop.fall_silent()
        if transport is None:
            for sock in self._sockets:
                sock.close()


class _NameLookUp(nbio_interface.AbstractIOReference):  # type: ignore[misc]  # pika has no type hints
    """A look-up that calls back within a time, in the reactor's thread."""

    def __init__(
        self,
        address: Address,
        loop: LaneLoop,
        on_done: Callable[[Any], object],
        timeout_s: float,
    ) -> None:
        self._on_done: Callable[[Any], object] | None = on_done
        self._loop = loop
        self._timer: Timer | None = loop.call_later(timeout_s, lambda: self._give_up(timeout_s))
        self._look_up: LookUp | None = None
        self._look_up = look_up(
            address, lambda found: loop.add_callback(lambda: self._finish(found))
        )

    def _give_up(self, timeout_s: float) -> None:
        self._timer = None
        message = f"the name service has not answered within {timeout_s:g} s"
        self._finish(socket.gaierror(socket.EAI_AGAIN, message))

    def _finish(self, found: list[Target] | OSError) -> None:
        on_done = self._on_done
        if on_done is None:
            return
        self.cancel()
        if isinstance(found, OSError):
            on_done(found)
        else:
            stream = socket.SOCK_STREAM, socket.IPPROTO_TCP
            on_done([(one.family, *stream, "", one.socket_address) for one in found])

    def cancel(self) -> bool:
        """Do not call back; returns whether this came in time."""
        on_done, self._on_done = self._on_done, None
        if self._look_up is not None:
            self._look_up.cancel()
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            self._timer = None
        return on_done is not None
