"""A program that runs out of file descriptors, threads or memory, at every place in turn.

Run as ``python -m tests.faults.starved SCENE``. The chart's arguments come pickled and in
hexadecimal on the first line of standard input. It prints a line for each attempt, and ends with an
error if one of them breaks the rule: an attempt ends with an error of this package or with
something that works, and either leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import pickle
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from miros import ActiveObject, Event

from miros_rabbitmq import (
    LocalAreaNetwork,
    LocalBroker,
    MirosRabbitMQError,
    NetworkedActiveObject,
    PikaTopicConsumer,
    PikaTopicPublisher,
    RabbitScout,
)
from miros_rabbitmq.amqp.link import Link
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.resources import news

from ..broker.charts import listening, make_active_object
from ..helpers import scaled, wait_until
from ..leaks import Holdings

Limit = Callable[[int], "contextlib.AbstractContextManager[object]"]

LINES: list[str] = []
"""What was logged, from WARNING on."""


class Lines(logging.Handler):
    """Notes what is logged, and refuses tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        LINES.append(record.getMessage())
        if record.exc_info:
            LINES.append("TRACEBACK " + repr(record.exc_info[1]))


# What runs out.


@contextmanager
def no_descriptors(_: int) -> Iterator[None]:
    """None is to be had, not even one that is given back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Only so many more descriptors are to be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in range(before[0]) if not _is_open(number))
    for _ in range(count):
        next(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(free), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


_START = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Only so many more threads can be started."""
    start = getattr(threading, _START)
    left = [count]

    def start_or_fail(*arguments: Any, **keywords: Any) -> Any:
        if left[0] <= 0:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        return start(*arguments, **keywords)

    setattr(threading, _START, start_or_fail)
    try:
        yield
    finally:
        setattr(threading, _START, start)


@contextmanager
def reads(count: int) -> Iterator[None]:
    """After so many reads of sockets, there is no memory for what arrives."""
    read = socket.socket.recv
    left = itertools.count(count, -1)

    def read_or_fail(self: socket.socket, *arguments: Any) -> bytes:
        if next(left) <= 0:
            raise MemoryError
        return read(self, *arguments)

    socket.socket.recv = read_or_fail  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del socket.socket.recv


LIMITS: dict[str, Limit] = {
    "reads": reads,
    "no descriptors": no_descriptors,
    "descriptors": descriptors,
    "threads": threads,
}


# What is attempted.


def end_threads_of_miros() -> None:
    """End the threads that miros starts once and keeps, so that it has to start them again."""
    chart = ActiveObject("ending")
    chart.fabric.stop()
    writer = chart.writer
    if writer.is_alive():
        writer._print(lambda _: None, "")  # it looks whether to go on only after a line
        wait_until(lambda: not writer.is_alive())


def chart_starts(arguments: dict[str, Any], limit: Limit, count: int) -> None:
    """Start a chart with snoops."""
    end_threads_of_miros()
    chart, _ = make_active_object(
        "starved", on_mesh_rx=None, on_peers_changed=lambda _: None, **arguments
    )
    chart.enable_snoop_trace()
    chart.enable_snoop_spy()
    try:
        with limit(count):
            try:
                with contextlib.redirect_stdout(None):
                    chart.start_at(listening)
            except MirosRabbitMQError:
                assert not chart.nets.is_running
                raise
            else:
                assert chart.nets.is_running
                assert chart.thread.is_alive()
                chart.transmit(Event(signal="NUMBER", payload=1))
            finally:
                chart.stop()
    finally:
        starts_after_all(chart)


def starts_after_all(chart: NetworkedActiveObject) -> None:
    """The same chart starts when the limit is gone."""
    with contextlib.redirect_stdout(None):
        chart.start_at(listening)
        chart.transmit(Event(signal="NUMBER", payload=2))
        assert chart.nets.flush(scaled(25)), chart.nets.stats()
        chart.stop()


def snoop_is_enabled(arguments: dict[str, Any], limit: Limit, count: int) -> None:
    """Enable and disable a snoop of a running chart, and stop it without a spare thread."""
    chart, _ = make_active_object("starved", **arguments)
    with contextlib.redirect_stdout(None):
        chart.start_at(listening)
        try:
            with limit(count):
                chart.enable_snoop_spy()
                chart.snoop_scribble("a remark")
                time.sleep(0.2)
                chart.disable_snoop_spy()
                chart.enable_snoop_trace()
                chart.snoop_scribble("another")
                chart.stop()
        finally:
            chart.stop()
        starts_after_all(chart)


def publisher_and_consumer(arguments: dict[str, Any], limit: Limit, count: int) -> None:
    """Start the two that work without a chart."""
    from miros_rabbitmq import Codec

    host, port = arguments["rabbit_host"], arguments["rabbit_port"]
    login = f"{arguments['rabbit_user']}:{arguments['rabbit_password']}"
    url = f"amqp://{login}@{host}:{port}/%2F"
    codec = Codec(arguments["mesh_encryption_key"])
    publisher = PikaTopicPublisher(
        url, "miros.mesh", "key", codec=codec, name="starved", on_change=lambda: None
    )
    consumer = PikaTopicConsumer(url, "miros.mesh", "key", codec=codec, on_message=lambda _: None)
    try:
        with limit(count):
            publisher.start_thread()
            consumer.start_thread()
            time.sleep(0.1)
    finally:
        stopped = [one.stop_thread() for one in (publisher, consumer)]
        assert all(stopped)


def discovery(arguments: dict[str, Any], limit: Limit, count: int) -> None:
    """Read the interfaces, and probe."""
    with limit(count):
        lan = LocalAreaNetwork()
        assert lan.interface.name
        scout = RabbitScout(
            arguments["rabbit_user"],
            arguments["rabbit_password"],
            addresses=arguments["addresses"],
            rabbit_host=arguments["rabbit_host"],
            rabbit_port=arguments["rabbit_port"],
        )
        report = scout.report
        for row in report:
            row.raise_for_outcome()


def interface(_: dict[str, Any], limit: Limit, count: int) -> None:
    """The interface is the right one, or none."""
    right = LocalAreaNetwork().interface
    with limit(count):
        found = LocalAreaNetwork().interface
    assert found == right


def local_broker(_: dict[str, Any], limit: Limit, count: int) -> None:
    """Start a broker."""
    broker = LocalBroker("127.0.0.9")
    try:
        with limit(count):
            broker.start(scaled(60))
    except MirosRabbitMQError:
        if count == 2:  # now and then is enough
            broker.start(scaled(60))
        raise
    finally:
        broker.stop()


def controlled_broker(_: dict[str, Any], limit: Limit, count: int) -> None:
    """Use a broker that runs, and end it."""
    broker = _broker()
    with limit(count):
        broker.ctl("list_vhosts")


def outage(arguments: dict[str, Any], limit: Limit, count: int) -> None:
    """Lose all connections of two charts while nothing is left; see it come back."""
    heard: list[int] = []
    chart, _ = make_active_object("starved", **arguments)
    other, _ = make_active_object(
        "other", on_mesh_rx=lambda event: heard.append(event.payload), **arguments
    )
    chart.enable_snoop_spy()
    number = iter(range(1_000))

    def transmit() -> None:
        chart.transmit(Event(signal="NUMBER", payload=next(number)))

    def links() -> list[Link]:
        nodes = chart.nets.node, other.nets.node
        found = [node.mesh.receiver.link for node in nodes if node.mesh.receiver is not None]
        found += [sender.link for node in nodes for sender in node.mesh.senders.values()]
        return found

    with contextlib.redirect_stdout(None):
        try:
            for one in (chart, other):
                one.start_at(listening)
            wait_until(lambda: all(link.is_connected for link in links()))
            with limit(count):
                transmit()
                if limit is not threads:
                    for link in links():
                        link.give_up_connection()
                    wait_until(lambda: not any(link.is_connected for link in links()))
                time.sleep(1.2)
                transmit()
                other.snoop_scribble("a remark")
                if count == 1:
                    chart.stop()
                    other.stop()
                    return
            wait_until(lambda: all(link.is_connected for link in links()))
            transmit()
            # The consumer may have been away longer than the sender.
            wait_until(lambda: heard == [0, 1, 2], 15, lambda: str(heard))
        finally:
            chart.stop()
            other.stop()


_brokers: list[LocalBroker] = []


def _broker() -> LocalBroker:
    if not _brokers:
        _brokers.append(LocalBroker("127.0.0.9"))
        _brokers[0].start(scaled(60))
    return _brokers[0]


SCENES: dict[str, tuple[Callable[[dict[str, Any], Limit, int], None], str, int, bool, bool]] = {
    "chart_threads": (chart_starts, "threads", 14, True, True),
    "chart_descriptors": (chart_starts, "descriptors", 18, True, True),
    "snoop_threads": (snoop_is_enabled, "threads", 6, False, True),
    "snoop_descriptors": (snoop_is_enabled, "descriptors", 4, False, True),
    "standalone_threads": (publisher_and_consumer, "threads", 4, True, True),
    "standalone_descriptors": (publisher_and_consumer, "descriptors", 9, False, True),
    "discovery_threads": (discovery, "threads", 2, True, True),
    "discovery_descriptors": (discovery, "descriptors", 6, True, True),
    "interface_descriptors": (interface, "descriptors", 4, True, True),
    "chart_reads": (chart_starts, "reads", 200, True, True),
    "outage_reads": (outage, "reads", 60, False, True),
    "outage_threads": (outage, "threads", 2, False, True),
    "outage_descriptors": (outage, "no descriptors", 1, False, True),
    "broker_descriptors": (local_broker, "descriptors", 6, True, False),
    "ctl_descriptors": (controlled_broker, "descriptors", 8, True, False),
}
"""What is attempted; what runs out; the most that are left; whether it fails with the least, and
works with the most. What needs nothing at once begins, and goes on trying in the background. A
broker needs more itself, as it has the same limit."""


def check_holdings(before: Holdings) -> None:
    """Wait until nothing is left of what came after."""
    wait_until(
        lambda: not Holdings.now().since(before), 10, lambda: str(Holdings.now().since(before))
    )


def leave(arguments: dict[str, Any], what: str) -> None:
    """Let the program end while nothing is left, and nobody has stopped the chart."""
    chart, _ = make_active_object("starved", on_mesh_rx=lambda _: None, **arguments)
    chart.enable_snoop_trace()
    with contextlib.redirect_stdout(None):
        chart.start_at(listening)
    # Never left.
    stack.enter_context(LIMITS[what](0))
    chart.transmit(Event(signal="NUMBER", payload=1))
    print("end", flush=True)


stack = contextlib.ExitStack()


def main(name: str) -> None:
    """Attempt it with none, one, two and so on."""
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    if name.startswith("leave "):
        leave(arguments, name.removeprefix("leave "))
        return
    logging.getLogger("miros_rabbitmq").addHandler(Lines(logging.WARNING))
    attempt, what, most, fails, works = SCENES[name]
    has_failed = has_worked = False
    if attempt is controlled_broker:
        _broker()
    attempt(arguments, lambda _: contextlib.nullcontext(), most)  # what is made once, is made
    for count in range(0, most + 1, max(1, most // 15)):
        LINES.clear()
        news.forget()
        before = Holdings.now()
        began_s = time.monotonic()
        try:
            attempt(arguments, LIMITS[what], count)
            outcome = "works"
            has_worked = True
        except MirosRabbitMQError as error:
            outcome = f"{type(error).__name__}: {error}"
            has_failed = True
        took_s = time.monotonic() - began_s
        write_all(scaled(25))
        gc.collect()
        check_holdings(before)
        print(f"{what} {count}: {outcome[:90]} ({took_s:.1f} s)", *LINES, sep="\n    ", flush=True)
        assert not any("TRACEBACK" in line for line in LINES)
        # One line an outage, whatever suffers from it. What a stop gives up is another matter.
        words = ("file descriptors open", "no thread", "no memory")
        said = [
            line
            for line in LINES
            if any(one in line for one in words) and "when it stopped" not in line
        ]
        assert len(said) <= 1, said
    assert has_failed is fails
    assert has_worked is works
    for broker in _brokers:
        broker.stop()
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
