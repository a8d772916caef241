"""What pika is given of the reactor: streams of connected sockets."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from miros_rabbitmq.amqp.reactor import READ, WRITE, Lane, Reactor
from miros_rabbitmq.amqp.services import LaneLoop, Services, Tap

from ...helpers import scaled, wait_until


def test_a_socket_that_was_reset_just_now_is_a_failed_attempt_and_no_error_of_ours() -> None:
    reactor = Reactor("reactor of a test")
    lane = reactor.attach("a link", lambda _: None, lambda _: None)

    def make_tap(protocol: Any) -> Tap:
        raise AssertionError(protocol)

    services = Services(lane, make_tap, 1.0)
    try:
        with socket.socket() as never_connected, pytest.raises(OSError, match="not connected"):
            services.create_streaming_connection(object, never_connected, print)
    finally:
        services.abort()
        lane.call_soon(lane.close)
        assert reactor.wait_for_end(scaled(20))


class Stream:
    """Stands in for a stream of pika's: it writes when it is called, what the socket takes."""

    def __init__(self, loop: LaneLoop, sock: socket.socket) -> None:
        self._loop, self._sock = loop, sock
        self.unsent = b""
        self.is_broken = False
        loop.add_handler(sock.fileno(), self._handle, READ)

    def write(self, data: bytes) -> None:
        self.unsent += data
        self._loop.update_handler(self._sock.fileno(), READ | WRITE)

    def _handle(self, _fd: int, events: int) -> None:
        if self.is_broken:
            raise OSError("broken")
        if events & WRITE:
            with contextlib.suppress(BlockingIOError):
                self.unsent = self.unsent[self._sock.send(self.unsent) :]
            if not self.unsent:
                self._loop.update_handler(self._sock.fileno(), READ)


class Watched(selectors.DefaultSelector):
    """Knows for what descriptors it has waited."""

    waited: ClassVar[list[int]] = []

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
        self.waited.append(events)
        return super().modify(fileobj, events, data)


@pytest.fixture
def lane() -> Iterator[Lane]:
    reactor = Reactor("reactor of a test", Watched)
    Watched.waited.clear()
    errors: list[BaseException] = []
    lane = reactor.attach("a link", errors.append, lambda _: None)
    lane.errors = errors  # type: ignore[attr-defined]
    yield lane
    lane.call_soon(lane.close)
    assert reactor.wait_for_end(scaled(20))


def do(lane: Lane, job: Callable[[], Any]) -> Any:
    """Do something in the reactor's thread."""
    done: list[Any] = []
    lane.call_soon(lambda: done.append(job()))
    wait_until(lambda: done)
    return done[0]


def test_what_is_written_goes_out_at_once_and_the_socket_is_watched_only_if_it_takes_no_more(
    lane: Lane,
) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        loop = LaneLoop(lane)
        stream = do(lane, lambda: Stream(loop, here))
        do(lane, lambda: (stream.write(b"one "), stream.write(b"and two")))
        there.settimeout(scaled(20))
        assert there.recv(100) == b"one and two"
        assert Watched.waited == []
        large = b"x" * 5_000_000
        do(lane, lambda: stream.write(large))
        received = 0
        while received < len(large):
            received += len(there.recv(1_000_000))
        wait_until(lambda: Watched.waited == [READ | WRITE, READ])
        do(lane, loop.fall_silent)


def test_a_thread_that_writes_in_place_of_the_reactor_has_it_go_out_soon(lane: Lane) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        loop = LaneLoop(lane)
        stream = do(lane, lambda: Stream(loop, here))
        wait_until(lambda: lane.run_here(lambda: stream.write(b"from here") is None))
        there.settimeout(scaled(20))
        assert there.recv(100) == b"from here"
        do(lane, loop.fall_silent)


def test_an_error_while_writing_is_the_links_and_a_loop_that_fell_silent_writes_nothing(
    lane: Lane,
) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        loop = LaneLoop(lane)
        stream = do(lane, lambda: Stream(loop, here))

        def fall_silent() -> bool:
            loop.fall_silent()
            return True

        stream.is_broken = True
        do(lane, lambda: stream.write(b"lost"))
        wait_until(lambda: [str(one) for one in lane.errors] == ["broken"])  # type: ignore[attr-defined]
        stream.is_broken = False
        do(lane, lambda: stream.write(b""))
        assert there.recv(100) == b"lost"
        do(lane, lambda: (stream.write(b"lost, too"), fall_silent()))
        do(lane, lambda: None)
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.recv(100)
