"""A program that runs out of file descriptors, threads or memory, at every place in turn.

Run as ``python -m tests.faults.starved SCENE``. The chart's arguments come pickled and in
hexadecimal on the first line of standard input. It prints a line for each attempt, and ends with an
error if one of them breaks the rule: an attempt ends with an error of this package or with
something that works, and either leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import resource
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
def descriptors(count: int) -> Iterator[None]:
    """Only so many more descriptors are to be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(one) for one in os.listdir("/proc/self/fd")}
    free = (number for number in range(before[0]) if number not in used)
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


LIMITS: dict[str, Limit] = {"descriptors": descriptors, "threads": threads}


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
        assert chart.nets.flush(scaled(10)), chart.nets.stats()
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


_brokers: list[LocalBroker] = []


def _broker() -> LocalBroker:
    if not _brokers:
        _brokers.append(LocalBroker("127.0.0.9"))
        _brokers[0].start(scaled(60))
    return _brokers[0]


SCENES: dict[str, tuple[Callable[[dict[str, Any], Limit, int], None], str, int, bool, bool]] = {
    "chart_threads": (chart_starts, "threads", 14, True, True),
    "chart_descriptors": (chart_starts, "descriptors", 22, True, True),
    "snoop_threads": (snoop_is_enabled, "threads", 6, False, True),
    "snoop_descriptors": (snoop_is_enabled, "descriptors", 4, False, True),
    "standalone_threads": (publisher_and_consumer, "threads", 4, True, True),
    "standalone_descriptors": (publisher_and_consumer, "descriptors", 9, False, True),
    "discovery_threads": (discovery, "threads", 2, True, True),
    "discovery_descriptors": (discovery, "descriptors", 6, True, True),
    "interface_descriptors": (interface, "descriptors", 4, True, True),
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


def main(name: str) -> None:
    """Attempt it with none, one, two and so on."""
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    logging.getLogger("miros_rabbitmq").addHandler(Lines(logging.WARNING))
    attempt, what, most, fails, works = SCENES[name]
    has_failed = has_worked = False
    if attempt is controlled_broker:
        _broker()
    attempt(arguments, lambda _: contextlib.nullcontext(), most)  # what is made once, is made
    for count in range(most + 1):
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
        write_all(scaled(20))
        gc.collect()
        check_holdings(before)
        print(f"{what} {count}: {outcome[:90]} ({took_s:.1f} s)", *LINES, sep="\n    ", flush=True)
        assert not any("TRACEBACK" in line for line in LINES)
        # One line an outage, whatever suffers from it.
        assert sum("trying again" in line or "may be lost" in line for line in LINES) <= 1
    assert has_failed is fails
    assert has_worked is works
    for broker in _brokers:
        broker.stop()
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
