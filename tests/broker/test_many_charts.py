"""Many charts of one process share the threads of their connections, and hold up no other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()

signals.append("HANG")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Whoever hangs may go on when this is set."""
    gate = threading.Event()
    yield gate
    gate.set()


def consumers() -> list[str]:
    names = (one.name for one in threading.enumerate())
    return sorted(name for name in names if name.startswith("miros consumers"))


def searches() -> int:
    """How many searches for brokers go on in this process."""
    return sum(one.name == "miros discovery" for one in threading.enumerate())


def dump(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_the_charts_of_a_process_share_a_thread_for_what_they_receive(
    broker_a: LocalBroker,
) -> None:
    network = arguments_for(broker_a, key=KEY)
    charts = [make_active_object(f"chart {number}", **network) for number in range(3)]
    own, _ = make_active_object("own", **network, serializer=dump, deserializer=json.loads)
    classes, _ = make_active_object("classes", **network, allowed_classes=[LocalBroker])
    with running(charts[0][0]), running(charts[1][0]), running(charts[2][0]):
        assert consumers() == ["miros consumers"]
        charts[0][0].transmit(Event(signal="NUMBER", payload=1))
        wait_until(lambda: all(record.payloads("NUMBER") == [1] for _, record in charts[1:]))
        charts[1][0].stop()  # the others go on
        charts[0][0].transmit(Event(signal="NUMBER", payload=2))
        wait_until(lambda: charts[2][1].payloads("NUMBER") == [1, 2])
        with running(own), running(classes):
            names = ["miros consumers of classes", "miros consumers of own"]
            assert consumers() == ["miros consumers", *names]
    wait_until(lambda: not consumers())


def test_a_deserializer_that_hangs_holds_up_no_other_chart(
    broker_a: LocalBroker, gate: threading.Event
) -> None:
    hangs = threading.Event()

    def hang(_data: bytes) -> Any:
        hangs.set()
        assert gate.wait(scaled(60))
        return ["NUMBER", 0]

    network = arguments_for(broker_a, key=KEY)
    hanging, _ = make_active_object("hanging", **network, serializer=dump, deserializer=hang)
    other, record = make_active_object("other", **network)
    sender, _ = make_active_object("sender", **network)
    with running(hanging), running(other), running(sender):
        sender.transmit(Event(signal="NUMBER", payload=1))
        assert hangs.wait(scaled(25))
        sender.transmit(Event(signal="NUMBER", payload=2))
        wait_until(lambda: record.payloads("NUMBER") == [1, 2])
        gate.set()


@spy_on
def hanging_in_a_handler(chart: Any, e: Event) -> Any:
    """The one state of a chart that hangs."""
    if e.signal == signals.HANG:
        chart.hangs.set()
        assert chart.gate.wait(scaled(60))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_a_chart_that_takes_nothing_holds_up_no_other_chart(
    broker_a: LocalBroker, gate: threading.Event
) -> None:
    network = arguments_for(broker_a, key=KEY)
    full = NetworkedActiveObject("full", **network)
    full.gate, full.hangs = gate, threading.Event()
    other, record = make_active_object("other", **network)
    sender, _ = make_active_object("sender", **network)
    count = 2 * full.nets.settings.limits.fifo_remote_events
    with running(full, state=hanging_in_a_handler), running(other), running(sender):
        sender.transmit(Event(signal="HANG"))
        assert full.hangs.wait(scaled(25))
        for number in range(count):
            sender.transmit(Event(signal="NUMBER", payload=number))
        wait_until(lambda: record.payloads("NUMBER") == list(range(count)), 20)
        gate.set()


def test_charts_search_together_while_they_have_the_same_keys(broker_a: LocalBroker) -> None:
    """Whoever holds a key of theirs may announce a broker, to nobody else."""
    network = arguments_for(broker_a, key=KEY)
    other_key = Fernet.generate_key()
    (one, _), (two, record) = (make_active_object(name, **network) for name in ("one", "two"))
    with running(one), running(two):
        assert searches() == 1
        for keys in ([KEY, other_key], [other_key, KEY], [other_key]):
            one.nets.change_mesh_encryption_key(keys)
            assert searches() == 1 + (keys != [other_key, KEY]), "the order does not matter"
            two.nets.change_mesh_encryption_key(keys)
            wait_until(lambda: searches() == 1)
        one.transmit(Event(signal="NUMBER", payload=1))
        wait_until(lambda: record.payloads("NUMBER") == [1])
        assert not record.heard[1:]
    wait_until(lambda: not searches())
