"""The publishers and consumers on their own, without a chart."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pika
import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    AccessRefused,
    BackPressure,
    BrokerUnreachable,
    Codec,
    Delivery,
    Envelope,
    Limits,
    LocalBroker,
    NetworkStopped,
    PayloadRefused,
    PikaTopicConsumer,
    PikaTopicPublisher,
    Queue,
    RejectReason,
    SessionState,
    SettingsError,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
    UnknownHost,
    VhostNotFound,
    json_deserializer,
    json_serializer,
)
from miros_rabbitmq.amqp import native
from miros_rabbitmq.amqp.io_choice import io_name
from miros_rabbitmq.amqp.link import Role
from miros_rabbitmq.amqp.parameters import Endpoint
from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.sender import Sender, Traffic
from miros_rabbitmq.amqp.standalone import Standalone
from miros_rabbitmq.logs import must_not_wait
from miros_rabbitmq.urls import Address, AmqpUrl, amqp_url
from miros_rabbitmq.wire.envelope import MESH
from miros_rabbitmq.wire.message import count_records
from miros_rabbitmq.wire.sealer import Heading, Record

from ..helpers import Poison, scaled, wait_until
from .forging import Forger
from .strangers import tap

EXCHANGE = "test.exchange"


@contextmanager
def running(*sessions: Standalone) -> Iterator[None]:
    with ExitStack() as stack:
        for session in sessions:
            stack.callback(session.stop_thread)
            session.start_thread()
            assert session.wait_until_ready(scaled(25)), session.fault
        yield


def wait_for_count(count: int, items: list[Any]) -> None:
    wait_until(lambda: len(items) == count, message=lambda: f"{count}, not {len(items)}")


def test_bytes_and_text_arrive_in_order_each_as_a_message_of_its_own(broker_a: LocalBroker) -> None:
    heard: list[Delivery] = []
    consumer = SimplePikaTopicConsumer(broker_a.url(), EXCHANGE, "a.*", on_message=heard.append)
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "a.b")
    with running(consumer, publisher):
        for number in range(500):
            publisher.post_fifo(f"line {number}\n")
        publisher.post_fifo(b"\x00\xff")
        assert publisher.flush(scaled(25))
        wait_until(lambda: len(heard) == 501)
        assert publisher.stats().confirmed == 501
        assert consumer.stats().messages == 501
    assert [one.body for one in heard[:-1]] == [f"line {n}\n".encode() for n in range(500)]
    assert heard[-1].body == b"\x00\xff"
    assert {one.routing_key for one in heard} == {"a.b"}


def test_values_arrive_as_they_were_and_are_encrypted_on_the_way(broker_a: LocalBroker) -> None:
    codec = Codec(Fernet.generate_key())
    heard: list[Envelope] = []
    wire: list[Delivery] = []
    tap = SimplePikaTopicConsumer(broker_a.url(), EXCHANGE, "#", on_message=wire.append)
    consumer = PikaTopicConsumer(
        broker_a.url(), EXCHANGE, "values", codec=codec, on_message=heard.append
    )
    publisher = PikaTopicPublisher(broker_a.url(), EXCHANGE, "values", codec=codec, name="thermo")
    with running(tap, consumer, publisher):
        for value in ("secret", {"t": (1, 2)}, 3):
            publisher.post_fifo(value)
        with pytest.raises(PayloadRefused):
            publisher.post_fifo(object())
        publisher.post_fifo("last")
        wait_until(lambda: len(heard) == 4 and sum(count_records(one.body) for one in wire) == 4)
    assert [one.body for one in heard] == ["secret", {"t": (1, 2)}, 3, "last"]
    assert [one.sequence for one in heard] == [1, 2, 3, 4]
    assert {one.sender for one in heard} == {"thermo"}
    assert not any(word in one.body for one in wire for word in (b"secret", b"thermo"))


def test_an_event_is_small_on_the_wire_alone_and_in_a_batch(broker_a: LocalBroker) -> None:
    """Compared with 204 bytes, and 205 in a batch, that it had as a Fernet token."""
    publisher = PikaTopicPublisher(
        broker_a.url(), MESH, "sizes", codec=Codec(Fernet.generate_key()), name="chart"
    )
    event = ("SIGNAL", "x" * 20)
    for _ in range(50):
        publisher.post_fifo(event)
    with tap(broker_a, key="sizes") as seen, running(publisher):
        wait_until(lambda: len(seen) == 1)
        publisher.post_fifo(event)
        wait_until(lambda: len(seen) == 2)
    batch, alone = (one.body for one in seen)
    assert (count_records(batch), count_records(alone)) == (50, 1)
    assert len(alone) <= 0.7 * 204
    assert len(batch) / 50 <= 0.6 * 205


def test_values_posted_from_many_threads_keep_each_threads_order(broker_a: LocalBroker) -> None:
    codec = Codec(Fernet.generate_key())
    heard: list[Envelope] = []
    consumer = PikaTopicConsumer(
        broker_a.url(), EXCHANGE, "many", codec=codec, on_message=heard.append
    )
    publisher = PikaTopicPublisher(broker_a.url(), EXCHANGE, "many", codec=codec, name="many")

    def post(thread: int) -> None:
        for number in range(200):
            publisher.post_fifo((thread, number))

    with running(consumer, publisher):
        threads = [threading.Thread(target=post, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(heard) == 1000)
        assert consumer.stats().gaps == 0
        assert consumer.stats().messages < 1000, "messages that wait together go out together"
    assert [one.sequence for one in heard] == list(range(1, 1001))
    for thread_number in range(5):
        mine = [number for thread, number in (one.body for one in heard) if thread == thread_number]
        assert mine == list(range(200))


@pytest.mark.parametrize("where", ["serializer", "clock"])
def test_a_post_in_the_middle_of_a_post_has_a_number_of_its_own(
    broker_a: LocalBroker, where: str
) -> None:
    """As of the handler of a signal, before the lock is taken, or between guess and claim."""
    heard: list[Envelope] = []
    pending = ["between"]

    def interrupt(at: str) -> None:
        if at == where and pending:
            publisher.post_fifo(pending.pop())

    def serializer(value: Any) -> bytes:
        interrupt("serializer")
        return json_serializer(value)

    def now() -> float:
        interrupt("clock")
        return time.time()

    codec = Codec(
        Fernet.generate_key(), serializer=serializer, deserializer=json_deserializer, now=now
    )
    publisher = PikaTopicPublisher(broker_a.url(), EXCHANGE, "amid", codec=codec, name="amid")
    consumer = PikaTopicConsumer(
        broker_a.url(), EXCHANGE, "amid", codec=codec, on_message=heard.append
    )
    with running(consumer):
        publisher.post_fifo("first")
        with running(publisher):
            wait_until(lambda: len(heard) == 2)
    order = ["between", "first"] if where == "serializer" else ["first", "between"]
    assert [(one.sequence, one.body) for one in heard] == [*enumerate(order, 1)]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_callback_that_raises_ends_no_thread(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    heard: list[bytes] = []

    def on_message(delivery: Delivery) -> None:
        heard.append(delivery.body)
        if delivery.body == b"bad":
            raise kind("of the user's own making")

    consumer = SimplePikaTopicConsumer(broker_a.url(), EXCHANGE, "r", on_message=on_message)
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "r")
    with running(consumer, publisher):
        for body in (b"good", b"bad", b"good again"):
            publisher.post_fifo(body)
        wait_until(lambda: len(heard) == 3)
        assert consumer.state is SessionState.READY
    assert "of the user's own making" in caplog.text
    assert heard == [b"good", b"bad", b"good again"]


def test_a_slow_callback_holds_messages_back_and_loses_none(broker_a: LocalBroker) -> None:
    heard: list[bytes] = []
    may_go_on = threading.Event()

    def on_message(delivery: Delivery) -> None:
        may_go_on.wait(scaled(30))
        heard.append(delivery.body)

    consumer = SimplePikaTopicConsumer(
        broker_a.url(),
        EXCHANGE,
        "held",
        on_message=on_message,
        limits=Limits(prefetch_messages=10),
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "held")
    with running(consumer, publisher):
        for number in range(100):
            publisher.post_fifo(str(number))
        assert publisher.flush(scaled(25)), "the broker takes messages, whatever the consumer does"
        wait_until(lambda: consumer.stats().messages == 10, message="the prefetch limit")
        assert not heard
        assert consumer.state is SessionState.READY
        may_go_on.set()
        wait_until(lambda: len(heard) == 100)
        assert consumer.stats().messages == 100
    assert heard == [str(number).encode() for number in range(100)]


def test_a_message_that_is_too_large_is_rejected_without_waiting_for_room(
    broker_a: LocalBroker,
) -> None:
    key = Fernet.generate_key()
    codec = Codec(key, max_bytes=1_000)
    sender = Forger(key, "large", network=EXCHANGE)
    heard: list[Envelope] = []
    may_go_on = threading.Event()

    def on_message(envelope: Envelope) -> None:
        may_go_on.wait(scaled(30))
        heard.append(envelope)

    consumer = PikaTopicConsumer(
        broker_a.url(),
        EXCHANGE,
        "large",
        codec=codec,
        on_message=on_message,
        limits=Limits(event_bytes=1_000, batch_bytes=1_000),
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "large")
    with running(consumer, publisher):
        for number in (1, 2):
            publisher.post_fifo(sender.message("small", number))
            publisher.post_fifo(b"x" * 1_001)
        rejected = RejectReason.OVERSIZE
        wait_until(lambda: consumer.stats().rejected.get(rejected) == 2)
        assert not heard
        may_go_on.set()
        wait_for_count(2, heard)
        # A message rejected between two that are acknowledged together does not come again.
        publisher.post_fifo(sender.message("small", 3))
        wait_for_count(3, heard)
        assert consumer.stats().messages == 5


@pytest.mark.parametrize("size", [1, 300_000])
def test_properties_that_pika_cannot_read_hold_nobody_up(broker_a: LocalBroker, size: int) -> None:
    if io_name() == "plain":
        pytest.skip("pika reads them by itself, and loses the connection again and again")
    heard: list[bytes] = []
    states: list[SessionState] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(),
        EXCHANGE,
        "poison",
        on_message=lambda one: heard.append(one.body),
        on_change=lambda: states.append(consumer.state),
    )
    with running(consumer):
        connection = pika.BlockingConnection(pika.URLParameters(broker_a.url()))
        channel = connection.channel()
        channel.basic_publish(EXCHANGE, "poison", b"x" * size, Poison())
        channel.basic_publish(EXCHANGE, "poison", b"after it")
        connection.close()
        wait_for_count(2, heard)
        assert SessionState.WAITING not in states, "no connection was lost"
    assert heard == [b"x" * size, b"after it"]


ONE_BEAT = Limits(tempo_fast_s=3600, tempo_slow_s=3600, tempo_patient_s=3600)
"""A beat of an hour: a message that waited for it would not arrive within the test."""


def test_a_post_to_an_empty_fifo_is_sent_at_once_whatever_the_tempo(broker_a: LocalBroker) -> None:
    sent_s: list[float] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(), EXCHANGE, "now", on_message=lambda _: sent_s.append(time.monotonic())
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "now", limits=ONE_BEAT)
    with running(consumer, publisher):
        for count in range(1, 6):
            publisher.post_fifo("now")
            wait_for_count(count, sent_s)
            assert publisher.flush(scaled(25))


def test_patient_traffic_goes_out_once_a_beat_or_when_it_fills_a_message(
    broker_a: LocalBroker,
) -> None:
    bodies: list[bytes] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(), EXCHANGE, "later", on_message=lambda delivery: bodies.append(delivery.body)
    )
    traffic = Traffic(EXCHANGE, joined=True, patient=True)
    heading = Heading("later", b"head:")
    endpoint = Endpoint(AmqpUrl(broker_a.url()), ONE_BEAT)
    sender = Sender(endpoint, Role("patient"), traffic, Reactor("patient"))

    def post(text: str) -> None:
        if sender.enqueue(Record(heading, text.encode())):
            sender.attend()

    with running(consumer):
        sender.start()
        assert sender.link.wait_until_ready(scaled(25))
        post("first")
        wait_until(lambda: bodies == [b"head:first"])
        for text in "abc":
            post(text)
        assert sender.stats().waiting == 3
        assert sender.flush(scaled(25))
        wait_until(lambda: bodies[1:] == [b"head:abc"])
        for _ in range(ONE_BEAT.batch_events):
            post("x")
        wait_until(lambda: len(bodies) == 3)
        assert sender.stats().messages == 3
        sender.stop()
        assert sender.link.wait_for_end()


def test_a_flood_is_sent_in_few_messages_and_arrives_in_order(broker_a: LocalBroker) -> None:
    codec = Codec(Fernet.generate_key())
    heard: list[int] = []
    consumer = PikaTopicConsumer(
        broker_a.url(),
        EXCHANGE,
        "flood",
        codec=codec,
        on_message=lambda one: heard.append(one.body),
    )
    publisher = PikaTopicPublisher(broker_a.url(), EXCHANGE, "flood", codec=codec, name="flood")
    with running(consumer, publisher):
        for number in range(5_000):
            publisher.post_fifo(number)
        assert publisher.flush(scaled(25))
        wait_until(lambda: len(heard) == 5_000)
        assert publisher.stats().messages < 2_500
    assert heard == list(range(5_000))


@pytest.mark.parametrize("joined", [False, True], ids=["bytes", "values"])
def test_several_threads_post_to_one_publisher_and_nothing_is_lost_or_out_of_order(
    broker_a: LocalBroker, joined: bool
) -> None:
    """This holds whether one of them or the publisher's own thread writes to the socket."""
    heard: list[tuple[int, int]] = []
    codec = Codec(Fernet.generate_key())
    url, key = broker_a.url(), "several"
    consumer: Standalone
    if joined:
        values = PikaTopicPublisher(url, EXCHANGE, key, codec=codec, name="several")
        consumer = PikaTopicConsumer(
            url, EXCHANGE, key, codec=codec, on_message=lambda one: heard.append(one.body)
        )
        publisher: PikaTopicPublisher | SimplePikaTopicPublisher = values
    else:
        texts = SimplePikaTopicPublisher(url, EXCHANGE, key)
        consumer = SimplePikaTopicConsumer(
            url, EXCHANGE, key, on_message=lambda one: heard.append(json.loads(one.body))
        )
        publisher = texts

    def post(thread: int) -> None:
        for number in range(1_000):
            value = (thread, number)
            if joined:
                values.post_fifo(value)
            else:
                texts.post_fifo(json.dumps(value))
            if number % 50 == 0:
                time.sleep(0.001)  # so that some find it idle

    with running(consumer, publisher):
        threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert publisher.flush(scaled(25))
        wait_for_count(4_000, heard)
    for n in range(4):
        assert [number for thread, number in heard if thread == n] == list(range(1_000))


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, AttributeError])
def test_an_exception_in_the_middle_of_a_send_costs_a_connection_and_no_event(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Of a signal's handler, which may run anywhere, or of pika."""
    if io_name() == "plain":
        pytest.skip("the thread that posts sends nothing itself")
    bodies: list[bytes] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(), EXCHANGE, "amid", on_message=lambda delivery: bodies.append(delivery.body)
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "amid")
    raised: list[BaseException] = []
    interrupted = threading.Event()
    numbers = itertools.count()

    def post() -> None:
        publisher.post_fifo(f"{next(numbers)},")

    with running(consumer, publisher):
        post()
        assert publisher.flush(scaled(25))
        send = native.Publishing.publish

        def interrupt(self: native.Publishing, routing_key: str, body: bytes) -> bool:
            if must_not_wait() or interrupted.is_set():
                # It was busy with the connection, and took this one over.
                return send(self, routing_key, body)
            interrupted.set()
            raise error

        monkeypatch.setattr(native.Publishing, "publish", interrupt)
        while not interrupted.is_set():
            assert publisher.flush(scaled(25))
            try:
                post()
            except BaseException as caught:  # noqa: BLE001 - what a user would see
                raised.append(caught)
        for _ in range(4):
            post()
        assert publisher.flush(scaled(25))
        sent = b"".join(b"%d," % number for number in range(next(numbers)))
        wait_until(lambda: b"".join(bodies) == sent)
    # An error of pika goes to the log; an exception from a signal handler goes to the program.
    assert [type(one) for one in raised] == ([] if error is AttributeError else [error])


def test_an_absent_broker_gets_the_newest_and_the_oldest_are_counted() -> None:
    nowhere = amqp_url("u", "p", Address("127.0.0.99", 1))
    publisher = SimplePikaTopicPublisher(
        nowhere, EXCHANGE, "absent", limits=Limits(backlog_events=10)
    )
    publisher.start_thread()
    try:
        for number in range(25):
            publisher.post_fifo(str(number))
        assert publisher.stats().waiting == 10
        assert publisher.stats().dropped == 15
        assert not publisher.flush(0.01) or publisher.is_flushed
        wait_until(lambda: isinstance(publisher.fault, BrokerUnreachable))
        assert "nothing listens at 127.0.0.99:1" in str(publisher.fault)
    finally:
        assert publisher.stop_thread()
    with pytest.raises(NetworkStopped):
        publisher.post_fifo("late")


def test_a_connected_broker_that_takes_nothing_makes_the_poster_wait(
    broker_factory: Any,
) -> None:
    broker = broker_factory("127.0.0.4")
    publisher = SimplePikaTopicPublisher(
        broker.url(), EXCHANGE, "slow", limits=Limits(backlog_events=5, window_messages=1)
    )
    with running(publisher):
        accepted: list[int] = []

        def post_on_and_on() -> None:
            for number in range(10_000):
                publisher.post_fifo(str(number), timeout=0.05)
                accepted.append(number)

        broker.pause()
        try:
            with pytest.raises(BackPressure, match=re.escape("127.0.0.4")):
                post_on_and_on()
        finally:
            broker.resume()
        assert publisher.flush(scaled(25))
        assert publisher.stats().confirmed == len(accepted)
        assert publisher.stats().dropped == 0


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        (lambda b: amqp_url("u", "p", Address("no.such.host.invalid")), UnknownHost, "not"),
        (lambda b: amqp_url("u", "p", Address("127.0.0.99", 1)), BrokerUnreachable, "listens"),
        (lambda b: amqp_url(b.user, "wrong", b.address), AccessRefused, "rabbitmqctl add_user"),
        (lambda b: b.url("nowhere"), VhostNotFound, "rabbitmqctl add_vhost"),
    ],
    ids=["unknown host", "nothing listens", "wrong password", "wrong vhost"],
)
def test_a_broker_that_cannot_be_used_gives_a_fault_that_says_what_to_do(
    broker_a: LocalBroker, url: Any, error: type[Exception], text: str
) -> None:
    publisher = SimplePikaTopicPublisher(url(broker_a), EXCHANGE, "k")
    publisher.start_thread()
    try:
        fault = wait_until(lambda: publisher.fault, 10)
        assert isinstance(fault, error)
        assert text in str(fault)
        assert "wrong" not in str(fault)
        refused = issubclass(error, (AccessRefused, VhostNotFound))
        wait_until(lambda: (publisher.state is SessionState.REFUSED) == refused)
    finally:
        assert publisher.stop_thread()


def test_a_text_that_is_not_a_url_is_refused_at_construction() -> None:
    with pytest.raises(SettingsError, match="not an AMQP URL"):
        SimplePikaTopicPublisher("http://example.com", EXCHANGE, "k")


def test_a_deleted_queue_is_declared_again(broker_a: LocalBroker) -> None:
    heard: list[bytes] = []
    states: list[SessionState] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(),
        EXCHANGE,
        "deleted",
        on_message=lambda one: heard.append(one.body),
        queue=Queue("test.deleted", True, False, {"x-expires": 60_000}),
        on_change=lambda: states.append(consumer.state),
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "deleted")
    with running(consumer, publisher):
        publisher.post_fifo("before")
        wait_until(lambda: heard == [b"before"])
        broker_a.ctl("delete_queue", "test.deleted")
        # The command may take longer than the consumer takes to come back.
        wait_until(lambda: SessionState.WAITING in states)
        wait_until(lambda: consumer.state is SessionState.READY)
        publisher.post_fifo("after")
        wait_until(lambda: heard == [b"before", b"after"])


def test_a_thread_can_be_stopped_at_any_time_and_started_again(broker_a: LocalBroker) -> None:
    heard: list[bytes] = []
    consumer = SimplePikaTopicConsumer(
        broker_a.url(), EXCHANGE, "again", on_message=lambda one: heard.append(one.body)
    )
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "again")
    for session in (consumer, publisher):
        session.start_thread()
        assert session.stop_thread(), "while it connects"
    for number in range(3):
        with running(consumer, publisher):
            publisher.post_fifo(str(number))
            wait_for_count(number + 1, heard)
        assert consumer.state is publisher.state is SessionState.STOPPED
    assert heard == [b"0", b"1", b"2"]


def test_a_start_right_after_a_stop_waits_for_the_end_and_connects_anew(
    broker_a: LocalBroker,
) -> None:
    publisher = SimplePikaTopicPublisher(broker_a.url(), EXCHANGE, "anew")
    with running(publisher):
        for _ in range(3):
            publisher.stop()
            publisher.start_thread()
            assert publisher.wait_until_ready(scaled(25)), publisher.state
        publisher.post_fifo("anew")
        assert publisher.flush(scaled(25))


def test_a_callback_may_take_its_time_and_hold_up_neither_an_end_nor_a_start() -> None:
    may_end = threading.Event()
    states: list[SessionState] = []

    def on_change() -> None:
        states.append(publisher.state)
        may_end.wait(scaled(30))

    nowhere = amqp_url("u", "p", Address("127.0.0.99", 1))
    publisher = SimplePikaTopicPublisher(nowhere, EXCHANGE, "k", on_change=on_change)
    try:
        for _ in range(2):
            publisher.start_thread()
            publisher.stop()
            wait_until(lambda: publisher.state is SessionState.STOPPED)
        wait_until(lambda: states)
        assert len(states) == 1
    finally:
        may_end.set()
    assert publisher.stop_thread(scaled(5))
    assert publisher.state is states[-1] is SessionState.STOPPED


def test_a_callback_may_start_again_what_was_stopped() -> None:
    starts = [3]

    def on_change() -> None:
        if publisher.state is SessionState.STOPPED and starts[0]:
            starts[0] -= 1
            publisher.start_thread()

    nowhere = amqp_url("u", "p", Address("127.0.0.99", 1))
    publisher = SimplePikaTopicPublisher(nowhere, EXCHANGE, "k", on_change=on_change)
    publisher.start_thread()
    for left in (2, 1, 0):
        publisher.stop()
        wait_until(lambda left=left: starts[0] == left and not publisher.is_stopping)  # type: ignore[misc]
    assert publisher.stop_thread(scaled(5))
    assert publisher.state is SessionState.STOPPED


def test_on_change_is_called_without_a_lock_and_what_it_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    states: list[SessionState] = []

    def on_change() -> None:
        states.append(publisher.state)
        # Another thread can take the lock, so this thread does not hold it.
        asker = threading.Thread(target=publisher.stats)
        asker.start()
        asker.join(scaled(20))
        assert not asker.is_alive(), "the lock is held"
        raise RuntimeError("of the user's own making")

    nowhere = amqp_url("u", "p", Address("127.0.0.99", 1))
    publisher = SimplePikaTopicPublisher(nowhere, EXCHANGE, "k", on_change=on_change)
    for _ in range(2):
        publisher.start_thread()
        wait_until(lambda: SessionState.WAITING in states)
        assert publisher.stop_thread(scaled(5))
        assert publisher.state is states[-1] is SessionState.STOPPED
        states.clear()
    assert "of the user's own making" in caplog.text
    assert "the lock is held" not in caplog.text
    assert "unexpected error" not in caplog.text


@pytest.mark.skipif(io_name() != "native", reason="pika sends all heartbeats")
def test_a_connection_lives_by_what_it_asks_and_by_our_heartbeats_where_it_may_not_ask(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker ends a connection of which it hears nothing for two heartbeats."""
    heartbeat_s = 2
    ours: list[float] = []
    of_pika: list[object] = []
    take = native.NativeWire.take_heartbeats

    def take_heartbeats(self: native.NativeWire, connection: Any, interval_s: float) -> Any:
        send = take(self, connection, interval_s)
        assert send is not None

        def count() -> None:
            assert send is not None
            ours.append(time.monotonic())
            send()

        return count

    monkeypatch.setattr(native.NativeWire, "take_heartbeats", take_heartbeats)
    checker = pika.heartbeat.HeartbeatChecker
    monkeypatch.setattr(checker, "_send_heartbeat_frame", of_pika.append)
    publisher = SimplePikaTopicPublisher(
        broker_a.url(), EXCHANGE, "key", limits=Limits(heartbeat_s=heartbeat_s)
    )
    publisher.start_thread()
    try:
        assert publisher.wait_until_ready(scaled(20))
        name = publisher.stats().connection
        began_s = time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > 3 * heartbeat_s, 20)
        assert (publisher.stats().connection, ours, of_pika) == (name, [], [])
        broker_a.ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            publisher.post_fifo(b"a message")
            wait_until(lambda: publisher.stats().state is SessionState.BLOCKED, 20)
            wait_until(lambda: len(ours) > 3 * heartbeat_s, 20)
        finally:
            broker_a.ctl("set_vm_memory_high_watermark", "0.4")
        wait_until(lambda: publisher.stats().confirmed == 1, 20)
        assert publisher.stats().connection == name
        assert not of_pika
    finally:
        publisher.stop_thread()
