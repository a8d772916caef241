"""Floods of more than receiver, broker or FIFO take at once: all events arrive, in order."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import BackPressure, DropReason, Limits, LocalBroker

from ..broker.charts import Record, arguments_for, make_active_object, running
from ..helpers import scaled, wait_until
from .conftest import SystemFactory

KEY = Fernet.generate_key()

MEMORY_MIB = 48.0
"""What a flood may cost either side: a full backlog (20,000 events of some 300 bytes with all their
objects), and what is unconfirmed or not acknowledged (32 messages of 128 kB)."""


def flood(count: int, brokers: tuple[LocalBroker, LocalBroker]) -> dict[str, tuple[float, float]]:
    """Run both sides; return for each its memory in MiB and its events a second."""
    key = Fernet.generate_key()
    with ExitStack() as stack:
        processes = {}
        for role, (own, other) in (("receive", brokers), ("send", brokers[::-1])):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.flooded", role, str(count)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            processes[role] = process
            tell(process, pickle.dumps(arguments_for(own, other, key=key)).hex())
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes.values():
            tell(process, "go")
        figures = {}
        for role, process in processes.items():
            report, _ = process.communicate(timeout=scaled(120))
            assert process.returncode == 0, role
            memory_mib, rate = map(float, report.split())
            figures[role] = (memory_mib, rate)
            print(f"{role}: {memory_mib:.1f} MiB more, {rate:,.0f} events a second")
    return figures


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_a_flood_costs_either_side_no_more_than_its_limits(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    figures = flood(10_000, (broker_a, broker_b))
    assert max(memory for memory, _ in figures.values()) < MEMORY_MIB


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_flood_of_100_000_events_costs_either_side_no_more_than_its_limits(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    figures = flood(100_000, (broker_a, broker_b))
    assert max(memory for memory, _ in figures.values()) < MEMORY_MIB


def test_local_and_remote_floods_at_the_same_time_lose_neither(broker_a: LocalBroker) -> None:
    """The FIFO holds a fraction of the posts: local posts wait, and remote events wait outside."""
    count = 3_000
    limits = Limits(fifo_events=300, fifo_remote_events=50, fifo_timeout_s=scaled(60))
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, record = make_active_object(
        "receiver", **arguments_for(broker_a, key=KEY, limits=limits)
    )

    def post() -> None:
        for number in range(count):
            receiver.post_fifo(Event(signal="LOCAL", payload=number))

    with running(sender, receiver):
        poster = threading.Thread(target=post)
        poster.start()
        for number in range(count):
            sender.transmit(Event(signal="REMOTE", payload=number))
        poster.join()
        record.wait_for(2 * count, 30)
        assert record.payloads("LOCAL") == list(range(count))
        assert record.payloads("REMOTE") == list(range(count))
        assert receiver.nets.stats().mesh.dropped[DropReason.FIFO] == 0


def test_a_chart_that_posts_to_itself_for_each_remote_event_loses_neither(
    broker_a: LocalBroker,
) -> None:
    count = 2_000

    class Echo(Record):
        def note(self, event: Event) -> None:
            super().note(event)
            if event.signal_name == "REMOTE":
                for number in range(3):
                    receiver.post_fifo(Event(signal="LOCAL", payload=(event.payload, number)))

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, _ = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    record = receiver.record = Echo()
    with running(sender, receiver):
        for number in range(count):
            sender.transmit(Event(signal="REMOTE", payload=number))
        record.wait_for(4 * count, 30)
        assert record.payloads("REMOTE") == list(range(count))
        assert record.payloads("LOCAL") == [(n, m) for n in range(count) for m in range(3)]
        assert receiver.nets.stats().mesh.dropped[DropReason.FIFO] == 0


def test_two_charts_that_answer_each_others_every_event_do_not_deadlock(
    systems: SystemFactory,
) -> None:
    """Backlogs are so small that each chart transmits to a full one, from its own thread."""
    serves, volleys = 300, 10

    class Player(Record):
        def __init__(self, chart: Any) -> None:
            super().__init__()
            self._chart = chart

        def note(self, event: Event) -> None:
            super().note(event)
            serve, volley = event.payload
            if volley < volleys:
                self._chart.transmit(Event(signal="BALL", payload=(serve, volley + 1)))

    limits = Limits(backlog_events=20, window_messages=2, batch_events=5, prefetch_messages=2)
    with systems(limits=limits, transmit_timeout=scaled(20)) as system:
        for chart in system.charts:
            chart.record = Player(chart)
        one, other = system.charts
        with system.running(talking=False):

            def serve(chart: Any) -> None:
                for number in range(serves):
                    chart.transmit(Event(signal="BALL", payload=(number, 1)))

            servers = [threading.Thread(target=serve, args=(chart,)) for chart in system.charts]
            for server in servers:
                server.start()
            for server in servers:
                server.join()
            for chart in (one, other):
                chart.record.wait_for(serves * volleys, 60)
            for chart in (one, other):
                balls = chart.record.payloads("BALL")
                # The odd events of the series that the other began, and the even ones of its own.
                assert sorted(balls) == [
                    (number, volley) for number in range(serves) for volley in range(1, volleys + 1)
                ]
                assert chart.nets.stats().mesh.gaps == 0


def test_a_chart_that_waits_in_transmit_still_has_its_events_taken_from_the_broker(
    systems: SystemFactory,
) -> None:
    """The consumer fills its FIFO; when the wait is over, nothing is missing."""
    limits = Limits(backlog_events=50, window_messages=1, absent_after_s=60.0)
    waiting = threading.Event()
    refused: list[BackPressure] = []

    class Relay(Record):
        def note(self, event: Event) -> None:
            super().note(event)
            if event.payload == 0:
                try:
                    for number in range(10_000):
                        relay.transmit(Event(signal="RELAYED", payload=number))
                        if number == 40:
                            waiting.set()
                except BackPressure as error:
                    refused.append(error)

    with systems(limits=limits, transmit_timeout=1.0, on_full="wait") as system:
        relay, source = system.charts
        record = relay.record = Relay()
        with system.running(talking=False):
            # The relay's events for its peer wait; those for itself come by its own broker.
            system.brokers[1].pause()
            try:
                own = str(system.proxies[0].address)
                for number in range(40):
                    source.transmit(Event(signal="SOURCE", payload=number))
                wait_until(lambda: source.nets.stats().mesh.brokers[own].unconfirmed == 0)
                assert waiting.wait(scaled(25))
                wait_until(lambda: refused, 10)
            finally:
                system.brokers[1].resume()
            record.wait_for(40)
            assert record.payloads("SOURCE") == list(range(40))
            assert relay.nets.flush(scaled(25))
