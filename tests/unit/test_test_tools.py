"""The tools of the tests notice leaks, connections and timeouts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.helpers import wait_until
from tests.leaks import Holdings


def test_a_thread_that_does_not_end_is_a_leak() -> None:
    before = Holdings.now()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="straggler")
    thread.start()
    try:
        assert Holdings.now().since(before) == ["thread 'straggler'"]
    finally:
        stop.set()
        thread.join()
    assert Holdings.now().since(before) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_an_open_socket_is_a_leak() -> None:
    before = Holdings.now()
    with socket.socket():
        assert Holdings.now().since(before) == ["file descriptor of socket"]
    assert Holdings.now().since(before) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_child_process_is_a_leak() -> None:
    before = Holdings.now()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child:
        leaks = Holdings.now().since(before)
    assert any("child process" in leak and "input()" in leak for leak in leaks), leaks
    assert Holdings.now().since(before) == []


def test_a_unit_test_cannot_connect() -> None:
    with socket.socket() as connection, pytest.raises(AssertionError, match="unit test"):
        connection.connect(("127.0.0.1", 9))


def test_waiting_returns_what_it_waited_for_or_says_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert wait_until(lambda: 7) == 7
    monkeypatch.setattr("tests.helpers.PATIENCE_S", 0.0)
    with pytest.raises(AssertionError, match="pigs fly"):
        wait_until(lambda: False, timeout=0.01, message="pigs fly")
