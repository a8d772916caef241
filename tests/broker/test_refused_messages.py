"""Messages that a broker refuses: they are found, given up and counted, and hold up no others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pika
import pika.spec
import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    BackPressure,
    Codec,
    DropReason,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    PikaTopicPublisher,
    PublisherStats,
    SessionState,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.delivery.refusal import Refusal
from miros_rabbitmq.urls import amqp_url

from ..amqp import method
from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running
from .fakes import Fakes

KEY = Fernet.generate_key()
MESH = "miros.mesh"
LIMIT = 65_536


@pytest.fixture(scope="module")
def narrow(request: pytest.FixtureRequest, rabbitmq_installed: None) -> Iterator[LocalBroker]:
    """A broker that refuses messages of more than 64 KiB, and knows frames of 8 KiB only."""
    broker_a: LocalBroker = request.getfixturevalue("broker_a")
    config = {"max_message_size": str(LIMIT), "frame_max": "8192"}
    with LocalBroker("127.0.0.6", password=broker_a.password, config=config) as broker:
        yield broker


@pytest.fixture(params=["native", "plain"])
def io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setenv("MIROS_RABBITMQ_IO", "plain")
    return str(request.param)


def numbered(chart: NetworkedActiveObject, numbers: range, padding: int = 0) -> None:
    for number in numbers:
        chart.transmit(Event(signal="NUMBER", payload=(number, "x" * padding)))


def heard_numbers(record: Any) -> list[int]:
    return [number for number, _ in record.payloads("NUMBER")]


def refused_by(chart: NetworkedActiveObject) -> int:
    return chart.nets.stats().mesh.dropped[DropReason.REFUSED]


def warnings_of(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [
        one.getMessage()
        for one in caplog.records
        if one.levelname == "WARNING" and text in one.getMessage()
    ]


@pytest.mark.usefixtures("io")
def test_an_event_that_the_broker_refuses_is_counted_and_what_is_behind_it_arrives(
    narrow: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(narrow, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(narrow, key=KEY))
    with running(sender, receiver):
        numbered(sender, range(10))
        numbered(sender, range(10, 11), padding=150_000)
        numbered(sender, range(11, 20))
        record.wait_for(19, 10)
        assert heard_numbers(record) == [*range(10), *range(11, 20)]
        wait_until(lambda: refused_by(sender) == 1)
        # What was learned holds on the next connection, too, and is said once.
        connections = caplog.text.count("connected")
        numbered(sender, range(20, 23), padding=150_000)
        numbered(sender, range(23, 24))
        record.wait_for(20, 10)
        wait_until(lambda: refused_by(sender) == 4)
        assert caplog.text.count("connected") == connections
        assert sender.nets.flush(scaled(25))
        assert receiver.nets.stats().mesh.gaps == 4
    said = warnings_of(caplog, "sender")
    assert len([one for one in said if "Meanwhile it gets what it takes" in one]) == 1
    assert len([one for one in said if "gave up an event of 150" in one]) == 1
    assert not [one for one in said if "trying again" in one]


@pytest.mark.usefixtures("io")
def test_small_events_arrive_although_their_batches_would_exceed_what_the_broker_takes(
    narrow: LocalBroker,
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(narrow, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(narrow, key=KEY))
    with running(sender, receiver):
        numbered(sender, range(5_000), padding=300)
        record.wait_for(5_000, 20)
        assert heard_numbers(record) == list(range(5_000))
        assert refused_by(sender) == 0
        assert sender.nets.flush(scaled(25))


def test_one_of_two_brokers_that_refuses_makes_no_transmit_wait_or_raise(
    broker_a: LocalBroker, narrow: LocalBroker
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, narrow, key=KEY))
    near, heard_near = make_active_object("near", **arguments_for(broker_a, narrow, key=KEY))
    far, heard_far = make_active_object("far", **arguments_for(narrow, broker_a, key=KEY))
    with running(sender, near, far, peers=1):
        slowest_s = 0.0
        for number in range(300):
            began_s = time.monotonic()
            size = 150_000 if number % 100 == 50 else 100
            try:
                numbered(sender, range(number, number + 1), padding=size)
            except BackPressure as error:
                raise AssertionError(f"at {number}") from error
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        heard_near.wait_for(300, 20)
        heard_far.wait_for(297, 20)
        assert heard_numbers(heard_near) == list(range(300))
        assert heard_numbers(heard_far) == [n for n in range(300) if n % 100 != 50]
        assert slowest_s < scaled(6)
        by_broker = sender.nets.stats().mesh.brokers
        assert by_broker[str(narrow.address)].drops[DropReason.REFUSED] == 3
        assert DropReason.REFUSED not in by_broker[str(broker_a.address)].drops


@pytest.mark.usefixtures("io")
def test_a_frame_smaller_than_ours_is_no_refusal(narrow: LocalBroker) -> None:
    """The broker of these tests takes frames of 8 KiB: a message then has several."""
    sender, _ = make_active_object("sender", **arguments_for(narrow, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(narrow, key=KEY))
    with running(sender, receiver):
        for size in (8_000, 8_100, 8_192, 8_200, 60_000):
            numbered(sender, range(size, size + 1), padding=size)
        record.wait_for(5, 10)
        assert heard_numbers(record) == [8_000, 8_100, 8_192, 8_200, 60_000]
        assert refused_by(sender) == 0


def test_a_publisher_without_a_chart_gives_up_what_is_refused_too(narrow: LocalBroker) -> None:
    with ExitStack() as stack:
        bytes_only = SimplePikaTopicPublisher(narrow.url(), "test.refused", "key")
        values = PikaTopicPublisher(
            narrow.url(), "test.refused", "key", codec=Codec(KEY), name="values"
        )
        for publisher in (bytes_only, values):
            stack.callback(publisher.stop_thread)
            for size in [10] * 50 + [70_000] + [10] * 50:
                publisher.post_fifo(b"x" * size)
            publisher.start_thread()
            assert publisher.wait_until_ready(scaled(25))
            wait_until(lambda: publisher.is_flushed, 10)  # noqa: B023 - it is called here
            stats = publisher.stats()
            assert stats.confirmed == 100
            assert stats.drops[DropReason.REFUSED] == stats.dropped == 1


def test_a_snoop_that_is_refused_holds_up_no_other(narrow: LocalBroker) -> None:
    with ExitStack() as stack:
        publisher = SimplePikaTopicPublisher(narrow.url(), "test.snoop", "key", lossy=True)
        stack.callback(publisher.stop_thread)
        publisher.start_thread()
        assert publisher.wait_until_ready(scaled(25))
        publisher.post_fifo(b"x" * 70_000)
        wait_until(lambda: publisher.stats().drops.get(DropReason.CONNECTION), 10)
        assert publisher.wait_until_ready(scaled(25))
        for size in (10, 70_000, 20):
            publisher.post_fifo(b"x" * size)
        wait_until(lambda: publisher.stats().confirmed == 2, 10)
        assert publisher.stats().drops[DropReason.REFUSED] == 1


def test_an_event_that_is_refused_without_a_reason_is_found_among_others(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the broker did not say how much it takes."""
    monkeypatch.setattr(Refusal, "most_bytes", None)
    config = {"max_message_size": "20000"}
    with LocalBroker("127.0.0.7", password=broker_a.password, config=config) as silent:
        sender, _ = make_active_object("sender", **arguments_for(silent, key=KEY))
        receiver, record = make_active_object("receiver", **arguments_for(silent, key=KEY))
        with running(sender, receiver):
            expected = []
            for number in range(2_000):
                is_large = number in (3, 1_000, 1_999)
                numbered(sender, range(number, number + 1), padding=30_000 if is_large else 50)
                if not is_large:
                    expected.append(number)
            record.wait_for(len(expected), 60)
            assert heard_numbers(record) == expected
            wait_until(lambda: refused_by(sender) == 3, 30)
            assert sender.nets.flush(scaled(25))
    said = warnings_of(caplog, "sender")
    assert len([one for one in said if "bit by bit" in one]) == 1
    assert not [one for one in said if "trying again" in one]


class Allergic:
    """Stands before a broker, and closes a connection with an error when it sees some bytes."""

    def __init__(self, fakes: Fakes, broker: LocalBroker, trigger: bytes, code: int) -> None:
        self.trigger = trigger
        self.seen = 0
        self._broker = broker.address
        self._close = method(pika.spec.Connection.Close(code, "INTERNAL_ERROR", 0, 0))
        self.address = fakes.listen(self._serve)

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(self._broker.host, self._broker.port)
        back = asyncio.ensure_future(self._pass(far, to_near))
        try:
            while data := await near.read(65_536):
                if self.trigger in data:
                    self.seen += 1
                    to_far.close()  # what came with it is lost
                    to_near.write(self._close)
                    await near.read()
                    return
                to_far.write(data)
                await to_far.drain()
        finally:
            to_far.close()
            back.cancel()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)


@pytest.mark.parametrize(("code", "is_given_up"), [(541, True), (320, False)])
def test_a_message_at_which_a_broker_closes_the_connection_is_given_up_if_its_code_is_an_error(
    broker_a: LocalBroker, code: int, is_given_up: bool
) -> None:
    """320 says that somebody has closed it: such a message is sent until it is through."""
    fakes = Fakes()
    with fakes.running(), ExitStack() as stack:
        allergic = Allergic(fakes, broker_a, b"the one", code)
        url = amqp_url(broker_a.user, broker_a.password, allergic.address)
        limits = Limits(reconnect_max_s=0.2)
        publisher = SimplePikaTopicPublisher(url, "test.allergic", "key", limits=limits)
        stack.callback(publisher.stop_thread)
        publisher.start_thread()
        assert publisher.wait_until_ready(scaled(25))
        for number in range(20):
            publisher.post_fifo("the one" if number == 7 else f"number {number}")
        if is_given_up:
            wait_until(lambda: publisher.is_flushed, 20)
            assert publisher.stats().drops[DropReason.REFUSED] == 1
            assert publisher.stats().confirmed == 19
        else:
            wait_until(lambda: allergic.seen >= 8, 20)
            assert not publisher.stats().dropped
            allergic.trigger = b"no such thing"
            wait_until(lambda: publisher.is_flushed, 20)
            assert publisher.stats().confirmed == 20


def test_a_routing_key_that_we_may_not_use_holds_up_no_other(
    narrow: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The notices of the mesh have a key of their own, which is refused here as well."""
    vhost = "topics"
    narrow.ctl("add_vhost", vhost)
    narrow.ctl("set_permissions", "-p", vhost, narrow.user, ".*", ".*", ".*")
    narrow.ctl("set_topic_permissions", "-p", vhost, narrow.user, MESH, "^public", ".*")
    options = {"rabbit_vhost": vhost, "rx_routing_key": "#"}
    receiver, record = make_active_object("receiver", **arguments_for(narrow, key=KEY, **options))
    publisher = PikaTopicPublisher(
        narrow.url(vhost), MESH, "public.a", codec=Codec(KEY), name="sender", role="talker"
    )
    try:
        publisher.start_thread()
        with running(receiver):
            for number in range(100):
                key = "secret.b" if number % 10 == 5 else None
                publisher.post_fifo(("NUMBER", (number, "")), routing_key=key)
            record.wait_for(90, 20)
            assert heard_numbers(record) == [n for n in range(100) if n % 10 != 5]
            assert publisher.flush(scaled(25))
            assert publisher.stats().drops[DropReason.REFUSED] == 10
            at = str(narrow.address)
            wait_until(lambda: receiver.nets.stats().mesh.brokers[at].state is SessionState.READY)
    finally:
        publisher.stop_thread()
    said = warnings_of(caplog, "Meanwhile it gets what it takes")
    assert len([one for one in said if "talker" in one]) == 1
    assert len([one for one in said if "receiver" in one and "miros.listener" in one]) == 1


# Nacks.


class Clogged:
    """A queue of somebody's that takes one message and refuses all others."""

    def __init__(self, broker: LocalBroker) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(broker.url()))
        channel = self._connection.channel()
        full = {"x-max-length": 1, "x-overflow": "reject-publish"}
        self.name = channel.queue_declare("", exclusive=True, arguments=full).method.queue
        channel.queue_bind(self.name, MESH, "#")

    def close(self) -> None:
        self._connection.close()


def one_by_one(
    sender: NetworkedActiveObject, record: Any, numbers: Iterator[int], count: int
) -> None:
    """Send so many, each when the one before was heard."""
    for number in itertools.islice(numbers, count):
        numbered(sender, range(number, number + 1))
        record.wait_for(number + 1)


def test_a_queue_that_refuses_everything_delays_and_costs_no_event_of_the_others(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """An event is delayed if it is sent again after a pause, or waits for one that is."""
    limits = Limits(nack_attempts=3)
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY, limits=limits))
    receiver, record = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    numbers = itertools.count()

    def stats() -> PublisherStats:
        return sender.nets.stats().mesh.brokers[str(broker_a.address)]

    with running(sender, receiver):
        clogged = Clogged(broker_a)
        try:
            one_by_one(sender, record, numbers, 10)  # it takes the first message, and no other
            wait_until(lambda: refused_by(sender) > 0, 10)
            assert sender.nets.flush(scaled(25))
            before = stats()
            one_by_one(sender, record, numbers, 100)
            assert sender.nets.flush(scaled(25))
        finally:
            clogged.close()
        after = stats()
        assert after.sent - before.sent == 100, "none is sent again"
        assert after.connection == before.connection
        assert refused_by(sender) >= 109
        assert heard_numbers(record) == list(range(110))
        assert receiver.nets.stats().mesh.gaps == 0
    assert len(warnings_of(caplog, "basic.nack")) == 1
    assert not warnings_of(caplog, "trying again")


def test_one_nack_is_repaired_by_sending_again(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    with running(sender, receiver):
        clogged = Clogged(broker_a)
        numbered(sender, range(1))
        record.wait_for(1)
        numbered(sender, range(1, 2))  # is refused, until the queue is gone
        record.wait_for(2)
        clogged.close()
        numbered(sender, range(2, 500))
        record.wait_for(500)
        assert heard_numbers(record) == list(range(500))
        assert sender.nets.flush(scaled(25))
        assert receiver.nets.stats().mesh.gaps == 0
