"""Attacks on a chart's queue by somebody who has RabbitMQ's password and knows the queue's name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pika.exceptions
import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    Limits,
    LocalBroker,
    Queue,
    QueueTaken,
    SessionState,
    SimplePikaTopicConsumer,
)
from miros_rabbitmq.logs import write_all

from ..faults.proxy import Direction, FaultProxy
from ..helpers import scaled, wait_until
from .charts import Record, arguments_for, make_active_object, running

KEY = Fernet.generate_key()

NAME = "tell-tale"
"""The chart's: no broker is to see it."""

LIMITS = Limits(heartbeat_s=1, connect_timeout_s=1.0)
"""A queue that somebody else consumes from is given up after three heartbeats and 3 s."""


@contextmanager
def thief(broker: LocalBroker) -> Iterator[Any]:
    """A connection of somebody who has the password."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url()))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


@pytest.fixture
def proxy(broker_a: LocalBroker) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.44", broker_a.address) as proxy:
        yield proxy


class Victim:
    """A chart behind a proxy, and another on the same broker that sends it numbers."""

    def __init__(self, broker: LocalBroker, proxy: FaultProxy) -> None:
        self.broker = broker
        self.proxy = proxy
        network = {**arguments_for(broker, key=KEY), "limits": LIMITS}
        self.sender, _ = make_active_object("sender", **network)
        network |= {
            "rabbit_host": proxy.address.host,
            "rabbit_port": proxy.address.port,
            "addresses": [str(proxy.address)],
        }
        self.chart, self.record = make_active_object(NAME, **network)
        self.sent = 0

    @property
    def queue(self) -> str:
        return self.chart.nets.stats().mesh.queue

    @property
    def state(self) -> SessionState:
        return self.chart.nets.stats().mesh.consumer

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sender.transmit(Event(signal="NUMBER", payload=self.sent))
            self.sent += 1

    def wait_until_it_hears(self, timeout: float = 20.0) -> None:
        """Wait until the chart hears something that is sent from now on."""
        first = self.sent

        def heard() -> bool:
            self.send()
            return numbers(self.record)[-1:] >= [first]

        wait_until(heard, timeout, lambda: f"{self.state}: {self.fault}")

    @property
    def fault(self) -> str:
        return self.chart.nets.stats().mesh.consumer_fault

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """A time in which the chart does not get through to its broker, as both know."""
        queue = self.queue
        self.proxy.silence(*Direction)
        self.proxy.cut()
        wait_until(lambda: self.state is not SessionState.READY)
        with thief(self.broker) as connection:
            channel = connection.channel()
            wait_until(
                lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 0
            )
        try:
            yield
        finally:
            self.proxy.heal()
            self.proxy.cut()


def numbers(record: Record) -> list[int]:
    return record.payloads("NUMBER")


@pytest.fixture
def victim(broker_a: LocalBroker, proxy: FaultProxy) -> Iterator[Victim]:
    victim = Victim(broker_a, proxy)
    with running(victim.sender, victim.chart):
        victim.wait_until_it_hears()
        yield victim


def queues(broker: LocalBroker) -> set[str]:
    return set(broker.ctl("list_queues", "name").split())


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """The warnings about the chart that contain a text."""
    assert write_all(scaled(25))
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    return [warning for warning in warnings if text in warning and NAME in warning]


def assert_it_took_another_queue(
    victim: Victim, broker: LocalBroker, before: str, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    assert victim.queue != before
    assert victim.queue in queues(broker)
    taken = said(caplog, "somebody has taken the queue")
    assert len(taken) == 1, taken
    assert why in taken[0]
    heard = numbers(victim.record)
    assert heard == sorted(set(heard))


def test_a_broker_sees_nothing_of_the_chart_in_any_name(
    broker_a: LocalBroker, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    for snoop in ("trace", "spy"):
        getattr(victim.chart.nets, f"enable_snoop_{snoop}")()
    stats = victim.chart.nets.stats
    wait_until(lambda: stats().snoop_spy.consumer is SessionState.READY)
    wait_until(lambda: stats().snoop_trace.consumer is SessionState.READY)
    listed = [
        broker_a.ctl("list_queues", "name", "arguments"),
        broker_a.ctl("list_connections", "name", "client_properties"),
        broker_a.ctl("list_consumers"),
        broker_a.ctl("list_channels", "name", "consumer_count"),
        broker_a.ctl("list_bindings"),
    ]
    assert not [text for text in listed if NAME in text or "sender" in text]
    # But whoever has the chart's stats, or its log, finds what is the chart's.
    mesh = stats().mesh
    assert mesh.queue.startswith("miros.")
    assert mesh.queue in listed[0]
    (publisher,) = mesh.brokers.values()
    for name in (mesh.consumer_connection, publisher.connection):
        assert name.startswith("miros-")
        assert name in listed[1]
    assert mesh.consumer_connection != publisher.connection
    assert stats().snoop_spy.queue.startswith("amq.gen-")
    assert stats().snoop_spy.queue in listed[0]


def test_the_log_says_which_names_a_chart_has(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    chart, _ = make_active_object(NAME, **arguments_for(broker_a, key=KEY))
    seen = []
    for _ in range(2):
        with running(chart):
            mesh = chart.nets.stats().mesh
            (publisher,) = wait_until(
                lambda: [one for one in chart.nets.stats().mesh.brokers.values() if one.connection]
            )
            seen += [mesh.queue, mesh.consumer_connection, publisher.connection]
        assert mesh.queue not in queues(broker_a), "a stop deletes it"
    assert write_all(scaled(25))
    assert len(set(seen)) == 6, "each start has names of its own"
    for queue, consumer, publisher_name in (seen[:3], seen[3:]):
        line = f"miros.mesh consumer of {NAME} at {broker_a.address}: connected as {consumer}"
        assert f"{line}, queue {queue}" in caplog.text
        assert f"publisher of {NAME} at {broker_a.address}: connected as {publisher_name}" in (
            caplog.text
        )


def test_a_deleted_queue_is_replaced_by_one_with_another_name(
    broker_a: LocalBroker, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    before = victim.queue
    broker_a.ctl("delete_queue", before)
    victim.wait_until_it_hears()
    assert_it_took_another_queue(victim, broker_a, before, caplog, "it was deleted")
    assert before not in queues(broker_a)
    now = victim.queue
    victim.chart.stop()
    assert now not in queues(broker_a), "the stop deletes the queue of the present name"


def test_nobody_can_consume_beside_the_chart(broker_a: LocalBroker, victim: Victim) -> None:
    first = victim.sent
    stolen: list[bytes] = []
    with thief(broker_a) as connection:
        for exclusive in (False, True):
            victim.send(50)
            channel = connection.channel()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="exclusive use"):
                channel.basic_consume(
                    victim.queue, lambda *message: stolen.append(message[3]), exclusive=exclusive
                )
        victim.send(50)
        expected = list(range(first, first + 150))
        wait_until(lambda: numbers(victim.record)[-1] == expected[-1], 10)
    assert stolen == []
    assert numbers(victim.record)[-150:] == expected
    assert victim.chart.nets.stats().mesh.gaps == 0


def declare_for_oneself(channel: Any, queue: str) -> None:
    channel.queue_declare(queue, exclusive=True)


def declare_with_other_arguments(channel: Any, queue: str) -> None:
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 1})


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (declare_for_oneself, "for another connection alone"),
        (declare_with_other_arguments, "with other arguments"),
    ],
)
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_queue_that_a_thief_declares_anew_leaves_the_chart_deaf_for_a_moment_only(
    declare: Callable[[Any, str], None],
    why: str,
    *,
    is_cut_off: bool,
    broker_a: LocalBroker,
    victim: Victim,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = victim.queue
    with thief(broker_a) as connection:
        channel = connection.channel()
        with victim.cut_off() if is_cut_off else contextlib.nullcontext():
            channel.queue_delete(before)
            declare(channel, before)
        victim.wait_until_it_hears()
        assert_it_took_another_queue(
            victim, broker_a, before, caplog, why if is_cut_off else "it was deleted"
        )
        channel.queue_delete(before)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_thief_who_consumes_while_the_chart_is_away_has_its_queue_for_some_heartbeats_only(
    broker_a: LocalBroker,
    victim: Victim,
    caplog: pytest.LogCaptureFixture,
    *,
    exclusive: bool,
) -> None:
    before = victim.queue
    with thief(broker_a) as connection:
        channel = connection.channel()
        with victim.cut_off():
            channel.basic_consume(before, lambda *_: None, exclusive=exclusive)
        wait_until(lambda: "still in use" in victim.fault)
        assert victim.queue == before
        assert victim.state is not SessionState.REFUSED
        victim.wait_until_it_hears(30)
        assert len(said(caplog, "still in use: by the connection before")) == 1
        why = "somebody else has consumed from it for 6 s"
        assert_it_took_another_queue(victim, broker_a, before, caplog, why)
        channel.queue_delete(before)


def test_what_waits_in_a_queue_is_kept_for_the_chart_while_another_has_it_for_a_moment(
    broker_a: LocalBroker, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a connection that the broker has not given up yet."""
    before, last = victim.queue, numbers(victim.record)[-1]
    with thief(broker_a) as connection:
        channel = connection.channel()
        with victim.cut_off():
            channel.basic_consume(before, lambda *_: None, exclusive=True)
            victim.send(20)
        wait_until(lambda: "still in use" in victim.fault)
        victim.send(20)
    wait_until(lambda: victim.state is SessionState.READY)
    victim.wait_until_it_hears()
    heard = [number for number in numbers(victim.record) if number > last]
    assert heard == list(range(last + 1, last + 1 + len(heard)))
    assert len(heard) > 40
    assert victim.queue == before
    assert said(caplog, "somebody has taken") == []


def test_a_named_queue_that_another_has_for_itself_is_no_matter_of_permissions(
    broker_a: LocalBroker,
) -> None:
    queue = Queue("test.held", True, False, {"x-expires": 60_000})
    consumer = SimplePikaTopicConsumer(
        broker_a.url(), "test.attacks", "held", on_message=lambda _: None, queue=queue
    )
    with thief(broker_a) as connection:
        channel = connection.channel()
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        channel.basic_consume(queue.name, lambda *_: None, exclusive=True)
        consumer.start_thread()
        try:
            fault = wait_until(lambda: consumer.fault)
            assert isinstance(fault, QueueTaken)
            assert "another program consumes" in str(fault)
            connection.close()
            assert consumer.wait_until_ready(scaled(25))
            assert consumer.stats().queue == "test.held"
            assert consumer.stats().connection.startswith("miros-")
        finally:
            assert consumer.stop_thread()
