"""Waiting for conditions, with timeouts scaled to the machine; for tests of every kind."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import pika

from miros_rabbitmq.discovery.probe import ProbeLimits

T = TypeVar("T")

TIME_SCALE = float(os.environ.get("MIROS_TEST_TIME_SCALE", "1"))
"""Multiplies every timeout of the tests; more than 1 on a slow or busy machine."""

PATIENCE_S = 25.0
"""The least time to wait for a condition, for moments in which other tests and brokers take all of
the machine. Much is done again every half minute: what should be done at once must not pass for it.
"""

POLL_S = 0.005
"""Too short to be noticed, and long enough to leave the processor to what is waited for."""


def scaled(seconds: float) -> float:
    """A timeout for this machine."""
    return seconds * TIME_SCALE


def wait_until(
    condition: Callable[[], T], timeout: float = 20.0, message: str | Callable[[], str] = ""
) -> T:
    """Wait until ``condition()`` is true, and return what it returned.

    Args:
        condition: looked at again and again; it should be quick.
        timeout: how long to wait, in seconds before scaling, if that is longer than `PATIENCE_S`;
            a condition that comes true soon costs nothing of it. It is no bound for what has to be
            quick: a test measures that for itself.
        message: what was waited for, for the failure; a callable is asked at the time of failure.

    Raises:
        AssertionError: it did not become true in time.
    """
    longest_s = scaled(max(timeout, PATIENCE_S))
    deadline = time.monotonic() + longest_s
    while not (value := condition()):
        if time.monotonic() >= deadline:
            text = message() if callable(message) else message
            name = getattr(condition, "__name__", "")
            raise AssertionError(f"not within {longest_s:g} s: {text or name}")
        time.sleep(POLL_S)
    return value


BUSY = ("has been starting for", " stood still for ", "body listens to what")
"""What is said on a busy machine: by a `LocalBroker`, by a thread that did not come to run, and by
a chart whose listeners start late."""


def complaints(said: str) -> str:
    """What a program has written to its standard error, without what `BUSY` has."""
    lines = said.splitlines(keepends=True)
    return "".join(line for line in lines if not any(text in line for text in BUSY))


PATIENT_PROBE = ProbeLimits(
    connect_timeout_s=scaled(10), answer_timeout_s=scaled(10), probe_timeout_s=scaled(30)
)
"""For a probe of a broker that answers, on a machine that may be too busy for the usual seconds."""


def processes_with(mark: str) -> list[str]:
    """Processes whose environment or command line contains a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(
                mark.encode() in (folder / part).read_bytes() for part in ("environ", "cmdline")
            ):
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:100])
    return found


class Poison(pika.BasicProperties):  # type: ignore[misc]  # pika has no type hints
    """A header table that a broker passes on, and for which pika raises."""

    def encode(self) -> list[bytes]:
        table = b"\x01tT" + struct.pack(">Q", 2**62)  # a time that no calendar has
        return [struct.pack(">HI", self.FLAG_HEADERS, len(table)), table]


def end_child(status: int) -> NoReturn:
    """End a forked child at once: its parent's tests, fixtures and exit hooks are not its own."""
    os._exit(status)
