"""When senders end, their events are sent first, or reported with their number."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import DropReason, Limits, LocalBroker, NetworkStopped
from miros_rabbitmq.urls import Address

from ..broker.charts import Record, arguments_for, listening, make_active_object, running
from ..helpers import scaled, wait_until
from . import programs
from .conftest import SystemFactory
from .proxy import FaultProxy
from .system import System, Talker

KEY = Fernet.generate_key()

ENDINGS = {
    "main_thread_ends": 0,
    "sys_exit": 0,
    "context_manager": 0,
    "uncaught_error": 1,
    "sigterm": 0,
    "fork": 0,
}
"""The programs, and the exit code of each."""


def run_program(name: str, key: bytes, brokers: tuple[LocalBroker, LocalBroker]) -> tuple[int, str]:
    arguments = arguments_for(*brokers, key=key)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.programs", name],
        input=pickle.dumps(arguments).hex() + "\n",
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    return done.returncode, done.stderr


def test_however_a_program_ends_all_its_events_arrive(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    keys = {name: Fernet.generate_key() for name in ENDINGS}
    listeners = {
        name: make_active_object("listener", **arguments_for(broker_b, broker_a, key=key))
        for name, key in keys.items()
    }
    with running(*(chart for chart, _ in listeners.values())):
        # Two at a time, one for each processor.
        with ThreadPoolExecutor(2) as pool:
            ended = pool.map(
                lambda name: run_program(name, keys[name], (broker_a, broker_b)), ENDINGS
            )
            results = dict(zip(ENDINGS, ended, strict=True))
        for name, (code, errors) in results.items():
            assert code == ENDINGS[name], f"{name}: {errors}"
            record: Record = listeners[name][1]
            record.wait_for(programs.COUNT)
            assert record.payloads("NUMBER") == list(range(programs.COUNT)), name


def test_what_a_frozen_broker_did_not_confirm_is_reported_with_its_count(
    systems: SystemFactory, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(stop_timeout_s=1.0)
    with systems(limits=limits) as system, system.running(talking=False):
        chart = system.charts[0]
        at = str(system.proxies[1].address)
        system.brokers[1].pause()
        try:
            system.talkers[0].send(100)
            began_s = time.monotonic()
            chart.stop()
            assert time.monotonic() - began_s < scaled(4.5), "and not the 5 s of the default"
        finally:
            system.brokers[1].resume()
        assert chart.nets.stats().mesh.dropped[DropReason.STOPPED] == 100
        (said,) = [one for one in caplog.messages if "100 events were not confirmed by" in one]
        assert said.startswith(f"chart0: 100 events were not confirmed by {at}")
        assert "call nets.flush()" in said


def test_a_broker_that_never_came_is_not_waited_for_but_reported(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = arguments_for(broker_a, key=KEY, limits=Limits(stop_timeout_s=60))
    nowhere = Address("127.0.0.99", 1)
    arguments["addresses"] = [str(broker_a.address), str(nowhere)]
    chart, _ = make_active_object("chart", **arguments)
    with running(chart):
        chart.transmit(Event(signal="NUMBER", payload=1))
        assert chart.nets.flush(scaled(25))
        began_s = time.monotonic()
        chart.stop()
        assert time.monotonic() - began_s < scaled(20), "and not the 60 s for those that come"
    (said,) = [one for one in caplog.messages if f"1 event was not confirmed by {nowhere}" in one]
    assert "as it is not connected: nothing listens" in said
    assert "flush" not in said


def test_a_chart_may_be_stopped_while_it_connects_again(broker_a: LocalBroker) -> None:
    with FaultProxy(broker_a.host, broker_a.address) as proxy:
        arguments = arguments_for(broker_a, key=KEY)
        arguments["rabbit_port"] = proxy.address.port
        arguments["addresses"] = [str(proxy.address)]
        # At every step of the set-up, and between two attempts.
        for cut_at in (1, 450, 520, 545, 575):
            chart, _ = make_active_object("chart", **arguments)
            with running(chart):
                proxy.cut_at(*[cut_at] * 4)
                proxy.cut()
                wait_until(lambda: proxy.cuts_pending < 4)
                began_s = time.monotonic()
                chart.stop()
                assert time.monotonic() - began_s < scaled(6.5)
            proxy.heal()


def test_a_chart_may_be_stopped_while_its_consumer_holds_messages_and_by_itself(
    broker_a: LocalBroker,
) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Stuck(Record):
        def note(self, event: Event) -> None:
            super().note(event)
            entered.set()
            gate.wait(scaled(25))
            if event.payload == 0:
                receiver.stop()  # in the chart's own thread

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, _ = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    record = receiver.record = Stuck()
    with running(sender, receiver):
        for number in range(5_000):
            sender.transmit(Event(signal="NUMBER", payload=number))
        assert entered.wait(scaled(25))
        room = receiver.nets.settings.limits.fifo_remote_events
        wait_until(lambda: len(receiver.queue) >= room)
        gate.set()
        wait_until(lambda: not receiver.thread.is_alive())
        assert record.payloads("NUMBER") == [0]
        # It starts again, as a new receiver.
        receiver.record = fresh = Record()
        receiver.queue.clear()
        receiver.start_at(listening)
        sender.transmit(Event(signal="NUMBER", payload="again"))
        fresh.wait_for(1)


def test_no_connection_outlives_its_chart(systems: SystemFactory) -> None:
    def connections(system: System) -> list[Any]:
        return [proxy.open_connections for proxy in system.proxies]

    with systems() as system:
        with system.running():
            system.wait_until_consumed_again()
            assert connections(system) == [3, 3]
        wait_until(lambda: connections(system) == [0, 0])


def test_what_other_threads_transmit_during_a_stop_is_sent_or_refused(
    systems: SystemFactory,
) -> None:
    for _ in range(5):
        with systems() as system, system.running(talking=False):
            chart, talker = system.charts[0], system.talkers[0]
            ended = threading.Event()

            def talk(talker: Talker = talker, ended: threading.Event = ended) -> None:
                with contextlib.suppress(NetworkStopped):
                    while True:
                        talker.send(1)
                ended.set()

            thread = threading.Thread(target=talk)
            thread.start()
            wait_until(system.is_talking)
            chart.stop()
            thread.join()
            assert ended.is_set()
            wait_until(system.ledger.is_settled, 10, system.describe)
            assert system.ledger.verdict().is_clean, system.describe()
