"""The loop's lock: held during each call, free while the loop waits."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pika.compat
import pytest

from miros_rabbitmq.amqp.loop import LockedLoop


@pytest.fixture(autouse=True)
def _woken_without_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """pika wakes its loop through a TCP connection to itself, and unit tests open none."""

    def pair() -> tuple[socket.socket, socket.socket]:
        sockets = socket.socketpair()
        for one in sockets:
            one.setblocking(False)
        return sockets

    # pika 1.3 has an underscore before the name.
    newer = hasattr(pika.compat, "nonblocking_socketpair")
    name = "nonblocking_socketpair" if newer else "_nonblocking_socketpair"
    monkeypatch.setattr(pika.compat, name, pair)


def test_the_lock_is_held_in_callbacks_timers_and_handlers_and_nowhere_else() -> None:
    loop: Any = LockedLoop()
    held: list[tuple[str, bool]] = []
    ours, theirs = socket.socketpair()

    def handle(_fd: int, _events: int) -> None:
        held.append(("handler", loop.lock._is_owned()))
        ours.recv(1)
        loop.call_later(0.0, timer)

    def timer() -> None:
        held.append(("timer", loop.lock._is_owned()))
        loop.stop()

    loop.add_handler(ours.fileno(), handle, loop.READ)
    loop.add_callback_threadsafe(lambda: held.append(("callback", loop.lock._is_owned())))
    thread = threading.Thread(target=loop.start)
    thread.start()
    # The loop waits for bytes now, or has not begun: taking the lock holds nothing up for long.
    assert loop.lock.acquire(timeout=5)
    loop.lock.release()
    theirs.send(b"x")
    thread.join(5)
    assert not thread.is_alive()
    assert sorted(held) == [("callback", True), ("handler", True), ("timer", True)]
    assert not loop.lock._is_owned()
    loop.close()
    ours.close()
    theirs.close()


def test_a_call_waits_for_whoever_has_the_lock() -> None:
    loop: Any = LockedLoop()
    called = threading.Event()
    loop.add_callback_threadsafe(called.set)
    loop.add_callback_threadsafe(loop.stop)
    with loop.lock:
        thread = threading.Thread(target=loop.start)
        thread.start()
        assert not called.wait(0.05)
    assert called.wait(5)
    thread.join(5)
    loop.close()


def test_an_error_in_a_call_lets_go_of_the_lock() -> None:
    loop: Any = LockedLoop()

    def fail() -> None:
        raise ValueError("a callback's")

    loop.add_callback_threadsafe(fail)
    with pytest.raises(ValueError, match="a callback's"):
        loop.start()
    assert not loop.lock._is_owned()
    loop.close()
