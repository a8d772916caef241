"""Programs that pose as a broker get no password, no memory and no time; others are not held up."""

from __future__ import annotations

import logging
import resource
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event
from pika import spec

from miros_rabbitmq import (
    BrokerError,
    Limits,
    LocalBroker,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.amqp import io_choice
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import amqp_url

from ..amqp import (
    HEARTBEAT,
    OPEN_OK,
    START,
    TUNE,
    body,
    content,
    deliver,
    header,
    method,
    raw,
    returned,
    start_with,
)
from ..helpers import scaled, wait_until
from .certificates import make
from .charts import arguments_for, make_active_object, running
from .fakes import Fakes
from .false_brokers import Attack, FalseBroker, endlessly

MANY = 400_000_000
"""How many bytes an attack without an end sends at most."""

MOST_GROWTH = 100_000_000
"""How much the process, of which the broker is a part, may grow meanwhile."""

USER, PASSWORD = "canary-user", "C4nary-p4ssw0rd"

LIMITS = Limits(reconnect_min_s=0.05, reconnect_max_s=0.2, stop_timeout_s=1.0)


@pytest.fixture(params=["native", "plain"])
def io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(io_choice.VARIABLE, request.param)
    io_choice.forget_choice()
    yield request.param
    monkeypatch.undo()
    io_choice.forget_choice()


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    with Fakes().running() as running:
        yield running


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Faults:
    """Notes the faults of a publisher or consumer, whichever state it is in when one looks."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.of: Any = None

    def note(self) -> None:
        fault = self.of.fault if self.of is not None else None
        if fault is not None:
            self.seen.append(str(fault))

    def __contains__(self, words: str) -> bool:
        return any(words in one for one in self.seen)


def consumer(broker: FalseBroker, faults: Faults, heard: list[Any]) -> SimplePikaTopicConsumer:
    url = amqp_url(USER, PASSWORD, broker.address)
    one = SimplePikaTopicConsumer(
        url,
        "miros.mesh",
        "#",
        on_message=lambda delivery: heard.append(delivery.body[:9]),
        limits=LIMITS,
        on_change=faults.note,
    )
    faults.of = one
    return one


def publisher(broker: FalseBroker, faults: Faults) -> SimplePikaTopicPublisher:
    url = amqp_url(USER, PASSWORD, broker.address)
    one = SimplePikaTopicPublisher(url, "miros.mesh", "key", limits=LIMITS, on_change=faults.note)
    faults.of = one
    return one


def many(data: bytes) -> Attack:
    return lambda *_: endlessly(data, MANY)


def once(*data: bytes) -> Attack:
    return lambda *_: iter(data)


def a_large_frame(channel: int, tag: str) -> Iterator[bytes]:
    """A frame of 4 GiB."""
    yield deliver(channel, tag) + header(channel, 2**20) + raw(3, channel, b"", size=2**32 - 1)[:-1]
    yield from endlessly(bytes(65_536), MANY)


def a_large_body(channel: int, tag: str) -> Iterator[bytes]:
    yield deliver(channel, tag) + header(channel, 2**40)
    yield from endlessly(body(channel, bytes(65_536)), MANY)


def empty_parts(channel: int, tag: str) -> Iterator[bytes]:
    yield deliver(channel, tag) + header(channel, 100)
    yield from endlessly(body(channel, b""), MANY)


def more_than_the_prefetch(channel: int, tag: str) -> Iterator[bytes]:
    number = 0
    whole = content(channel, bytes(60_000))
    for number in range(1, MANY // 60_000):
        yield deliver(channel, tag, number) + whole


def a_bad_table(channel: int, tag: str) -> Iterator[bytes]:
    """A delivery with a table for which a decoder raises: it is taken all the same."""
    nested = b"\x01kF" + (60).to_bytes(4, "big")
    table = nested * 10_000
    properties = b"\x20\0" + len(table).to_bytes(4, "big") + table
    yield deliver(channel, tag) + header(channel, 1, properties) + body(channel, b"x")


def of_a_channel(make: Any) -> Attack:
    return lambda channel, _: iter((make(channel),))


CONSUMED: list[tuple[str, Attack, str]] = [
    ("a frame of 4 GiB", a_large_frame, "a frame of 4,294,967,295 bytes"),
    ("a body of a terabyte", a_large_body, "a message of 1,099,511,627,776 bytes"),
    ("a body in empty parts", empty_parts, "a part of 0 bytes"),
    ("more than the prefetch", more_than_the_prefetch, "more than 32 messages"),
    ("a body of nothing", of_a_channel(lambda n: body(n, b"x")), "belongs to nothing"),
    ("a header of nothing", of_a_channel(lambda n: header(n, 1)), "belongs to nothing"),
    (
        "a return",
        of_a_channel(lambda n: returned(n) + content(n, b"x")),
        "of what was not published",
    ),
    (
        "an unknown consumer",
        of_a_channel(lambda n: deliver(n, "another") + content(n, b"x")),
        "a consumer that is not there",
    ),
    (
        "what nobody has got",
        of_a_channel(lambda n: method(spec.Basic.GetOk(1, False, "x", "y", 0), n)),
        "Basic.GetOk, which no broker sends here",
    ),
    ("an unknown type", once(b"\x05" + bytes(6) + b"\xce"), "the unknown type 5"),
    ("no end", once(HEARTBEAT[:-1] + b"\0"), "a frame without its end"),
    ("an unknown method", of_a_channel(lambda n: raw(1, n, bytes(4))), "the unknown method 0.0"),
    ("no method", of_a_channel(lambda n: raw(1, n, b"")), "a method without a number"),
    (
        "another channel",
        of_a_channel(lambda n: method(spec.Channel.Flow(True), n + 1)),
        "which was not opened",
    ),
    (
        "a flood of flow",
        lambda channel, _: endlessly(method(spec.Channel.Flow(True), channel), MANY),
        "more than 1,000 frames",
    ),
    ("a flood of heartbeats", many(HEARTBEAT), "more than 1,000 frames"),
    ("a flood of blocks", many(method(spec.Connection.Blocked("x"))), "more than 1,000 frames"),
    (
        "a body in tiny parts",
        lambda n, tag: iter((deliver(n, tag) + content(n, bytes(100_000), 2),)),
        "a body in tiny parts",
    ),
    ("another start", once(START), "Connection.Start while the connection is open"),
    ("another tune", once(TUNE), "Connection.Tune while the connection is open"),
    ("content on channel 0", once(header(0, 1)), "a heartbeat or a content where"),
    (
        "a method amid a content",
        lambda n, tag: iter((deliver(n, tag) + header(n, 9) + deliver(n, tag) + content(n, b"x"),)),
        "a method in the middle of a content",
    ),
    ("a broken method", of_a_channel(lambda n: raw(1, n, b"\0\x14\0\x28")), "cannot be decoded"),
]


@pytest.mark.parametrize(
    ("attack", "words"), [one[1:] for one in CONSUMED], ids=[one[0] for one in CONSUMED]
)
@pytest.mark.usefixtures("io")
def test_what_no_broker_sends_to_a_consumer_ends_the_connection(
    fakes: Fakes, attack: Attack, words: str
) -> None:
    broker = FalseBroker(fakes, spec.Basic.Consume, attack)
    faults, heard = Faults(), list[Any]()
    one = consumer(broker, faults, heard)
    before, threads = resident_bytes(), threading.active_count()
    one.start_thread()
    try:
        wait_until(lambda: words in faults, scaled(30), lambda: str(set(faults.seen)))
        wait_until(lambda: broker.connections >= 3, scaled(20))  # it is tried again
        assert resident_bytes() - before < MOST_GROWTH
    finally:
        assert one.stop_thread()
    assert threading.active_count() <= threads + 1


def returning(size: int, channel_of: Any = None) -> Attack:
    def attack(channel: int, _: str) -> Iterator[bytes]:
        yield returned(channel) + header(channel, size)
        yield from endlessly(body(channel, bytes(65_536)), MANY)

    return attack


PUBLISHED: list[tuple[str, Attack, str]] = [
    ("a return of a terabyte", returning(2**40), "a message of 1,099,511,627,776 bytes"),
    ("a return that is larger", returning(1_001), "a message of 1,001 bytes, where none has more"),
    (
        "a delivery",
        of_a_channel(lambda n: deliver(n, "ctag1.x") + content(n, b"x")),
        "a consumer that is not there",
    ),
    (
        "a confirm amid a return",
        of_a_channel(lambda n: returned(n) + header(n, 9) + method(spec.Basic.Ack(1), n)),
        "a method in the middle of a content",
    ),
    ("a flood of blocks", many(method(spec.Connection.Blocked("x"))), "more than 1,000 frames"),
    (
        "a flood of confirms",
        lambda n, _: endlessly(method(spec.Basic.Ack(1), n), MANY),
        "Basic.Ack on channel 1 that confirms nothing",
    ),
    (
        "a flood of confirms of all",
        lambda n, _: endlessly(method(spec.Basic.Ack(0, True), n), MANY),
        "Basic.Ack on channel 1 that confirms nothing",
    ),
    (
        "a confirm of what was never sent",
        of_a_channel(lambda n: method(spec.Basic.Ack(2**64 - 1, True), n)),
        "Basic.Ack on channel 1 that confirms nothing",
    ),
    (
        "a flood of returns",
        lambda n, _: endlessly(returned(n) + header(n, 0), MANY),
        "Basic.Return on channel 1 of what was not published",
    ),
]


@pytest.mark.parametrize(
    ("attack", "words"), [one[1:] for one in PUBLISHED], ids=[one[0] for one in PUBLISHED]
)
@pytest.mark.usefixtures("io")
def test_what_no_broker_sends_to_a_publisher_ends_the_connection(
    fakes: Fakes, attack: Attack, words: str
) -> None:
    broker = FalseBroker(fakes, spec.Basic.Publish, attack)
    faults = Faults()
    one = publisher(broker, faults)
    before = resident_bytes()
    one.start_thread()
    try:
        assert one.wait_until_ready(scaled(25))
        one.post_fifo(bytes(1_000))
        wait_until(lambda: words in faults, scaled(30), lambda: str(set(faults.seen)))
        wait_until(lambda: broker.connections >= 2, scaled(20))
        assert resident_bytes() - before < MOST_GROWTH
    finally:
        one.stop_thread()


@pytest.mark.usefixtures("io")
def test_a_broker_that_was_blocked_goes_on_to_confirm_by_the_same_numbers(fakes: Fakes) -> None:
    pair = method(spec.Connection.Blocked("x")) + method(spec.Connection.Unblocked())

    def confirm(channel: int, _: str) -> Iterator[bytes]:
        tags = sum(isinstance(one, spec.Basic.Publish) for one in broker.received)
        yield method(spec.Basic.Ack(tags), channel) + pair

    def has_confirmed(count: int) -> bool:
        return one.stats().confirmed == count

    broker = FalseBroker(fakes, spec.Basic.Publish, confirm)
    one = publisher(broker, Faults())
    one.start_thread()
    try:
        assert one.wait_until_ready(scaled(25))
        for number in range(1, 6):
            one.post_fifo(bytes(100))
            wait_until(partial(has_confirmed, number), scaled(20))
        assert broker.connections == 1
    finally:
        one.stop_thread()


def test_a_broker_that_blocks_and_unblocks_all_the_time_fills_no_log(
    fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    pair = method(spec.Connection.Blocked("x")) + method(spec.Connection.Unblocked())
    broker = FalseBroker(fakes, spec.Confirm.Select, many(pair))
    faults = Faults()
    one = publisher(broker, faults)
    with caplog.at_level(logging.WARNING):
        one.start_thread()
        try:
            wait_until(lambda: "more than 1,000 frames" in faults, scaled(30))
        finally:
            one.stop_thread()
        write_all(scaled(25))
    lines = [record for record in caplog.records if "publish" in record.getMessage()]
    assert len(lines) <= 20 * broker.connections


@pytest.mark.usefixtures("io")
def test_a_table_that_no_decoder_reads_is_not_looked_at(fakes: Fakes) -> None:
    broker = FalseBroker(fakes, spec.Basic.Consume, a_bad_table)
    faults, heard = Faults(), list[Any]()
    one = consumer(broker, faults, heard)
    one.start_thread()
    try:
        wait_until(lambda: heard, scaled(20), lambda: str(set(faults.seen)))
    finally:
        assert one.stop_thread()
    assert heard == [b"x"]
    assert broker.connections == 1


# Who gets a password.


def nested(depth: int) -> bytes:
    """A ``Start`` whose properties are tables in tables."""
    table = b""
    for _ in range(depth):
        inner = b"\x01kF" + len(table).to_bytes(4, "big") + table
        table = inner
    properties = len(table).to_bytes(4, "big") + table
    return raw(1, 0, b"\0\x0a\0\x0a\0\x09" + properties + b"\0\0\0\x05PLAIN\0\0\0\x05en_US")


STRANGERS: list[tuple[str, bytes, str]] = [
    ("another product", start_with(product="Another"), "calls itself 'Another'"),
    ("no product", start_with(product=None), "calls itself 'None'"),
    ("no password", start_with(mechanisms="EXTERNAL"), "accepts no password, only EXTERNAL"),
    ("a login like PLAIN", start_with(mechanisms="PLAINX XPLAIN"), "accepts no password"),
    ("tune first", TUNE, "it began with Connection.Tune"),
    ("open-ok first", OPEN_OK, "it began with Connection.OpenOk"),
    ("secure first", method(spec.Connection.Secure("x")), "it began with Connection.Secure"),
    ("a heartbeat first", HEARTBEAT + START, "is not a RabbitMQ"),
    ("a channel first", method(spec.Channel.OpenOk(), 1), "is not a RabbitMQ"),
    ("a large start", start_with(junk="x" * 20_000), "is not a RabbitMQ"),
    ("a deep start", nested(2_000), "is not a RabbitMQ"),
    ("no start", raw(1, 0, b"\0\x0a\0\x0a"), "is not a RabbitMQ"),
    ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", "it is a web server"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", "it is an SSH server"),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x16", "expects TLS"),
]


@pytest.mark.parametrize("kind", ["consumer", "publisher"])
@pytest.mark.parametrize(
    ("start", "words"), [one[1:] for one in STRANGERS], ids=[one[0] for one in STRANGERS]
)
@pytest.mark.usefixtures("io")
def test_who_does_not_begin_as_rabbitmq_does_gets_no_password(
    fakes: Fakes, kind: str, start: bytes, words: str
) -> None:
    broker = FalseBroker(fakes, dialogue=(start, TUNE, OPEN_OK))
    faults = Faults()
    one = consumer(broker, faults, []) if kind == "consumer" else publisher(broker, faults)
    one.start_thread()
    try:
        wait_until(lambda: words in faults, scaled(20), lambda: str(set(faults.seen)))
    finally:
        one.stop_thread()
    assert len(fakes.received) % 8 == 0, "nothing but greetings"
    for secret in (USER, PASSWORD):
        assert secret.encode() not in fakes.received


DIALOGUES: list[tuple[str, tuple[bytes, bytes, bytes], str]] = [
    ("start twice at once", (START + START, TUNE, OPEN_OK), "Connection.Start instead of"),
    ("start for tune", (START, START, OPEN_OK), "Connection.Start instead of Connection.Tune"),
    (
        "secure for tune",
        (START, method(spec.Connection.Secure("more")), OPEN_OK),
        "Connection.Secure instead of Connection.Tune",
    ),
    ("open-ok for tune", (START, OPEN_OK, OPEN_OK), "Connection.OpenOk instead of"),
    ("tune for open-ok", (START, TUNE, TUNE), "Connection.Tune instead of Connection.OpenOk"),
    ("tiny frames", (START, method(spec.Connection.Tune(0, 1, 0)), OPEN_OK), "at most 1 bytes"),
    ("small frames", (START, method(spec.Connection.Tune(0, 4_095, 0)), OPEN_OK), "4,095 bytes"),
    ("a large tune", (START, raw(1, 0, bytes(17_000)), OPEN_OK), "a frame of 17,000 bytes"),
]


@pytest.mark.parametrize(
    ("dialogue", "words"), [one[1:] for one in DIALOGUES], ids=[one[0] for one in DIALOGUES]
)
@pytest.mark.usefixtures("io")
def test_a_dialogue_in_another_order_ends_and_nobody_gets_the_password_twice(
    fakes: Fakes, dialogue: tuple[bytes, bytes, bytes], words: str
) -> None:
    broker = FalseBroker(fakes, dialogue=dialogue)
    faults = Faults()
    one = publisher(broker, faults)
    one.start_thread()
    try:
        wait_until(lambda: words in faults, scaled(20), lambda: str(set(faults.seen)))
        wait_until(lambda: broker.connections >= 2, scaled(20))
    finally:
        one.stop_thread()
    assert len(broker.passwords()) <= broker.connections


@pytest.mark.parametrize(
    "tune",
    [(0, 0, 0), (1, 4_096, 1), (65_535, 2**32 - 1, 65_535), (2_047, 131_072, 0)],
    ids=str,
)
@pytest.mark.usefixtures("io")
def test_a_strange_tune_that_can_be_lived_with_works(
    fakes: Fakes, tune: tuple[int, int, int]
) -> None:
    dialogue = (START, method(spec.Connection.Tune(*tune)), OPEN_OK)
    broker = FalseBroker(fakes, dialogue=dialogue)
    one = publisher(broker, Faults())
    one.start_thread()
    try:
        assert one.wait_until_ready(scaled(25))
        one.post_fifo(bytes(200_000))
        assert one.flush(scaled(25))
    finally:
        assert one.stop_thread()
    assert broker.connections == 1


@pytest.mark.parametrize(
    "dialogue",
    [(one[1], TUNE, OPEN_OK) for one in STRANGERS] + [one[1] for one in DIALOGUES],
    ids=[one[0] for one in STRANGERS] + [one[0] for one in DIALOGUES],
)
def test_a_probe_looks_as_closely_as_a_connection(
    fakes: Fakes, dialogue: tuple[bytes, bytes, bytes]
) -> None:
    broker = FalseBroker(fakes, dialogue=dialogue)
    with pytest.raises(BrokerError):
        probe_one(amqp_url(USER, PASSWORD, broker.address))
    assert len(broker.passwords()) <= (dialogue[0].startswith(START))


@pytest.mark.parametrize("kind", ["consumer", "publisher"])
@pytest.mark.usefixtures("io")
def test_with_tls_too_only_rabbitmq_gets_a_password(
    fakes: Fakes, kind: str, tmp_path: Path
) -> None:
    make("server", "127.0.0.9").write(tmp_path / "server.pem", tmp_path / "server.key")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    start = start_with(product="Another")
    broker = FalseBroker(fakes, dialogue=(start, TUNE, OPEN_OK), tls=served)
    faults = Faults()
    url = amqp_url(USER, PASSWORD, broker.address, tls=True)
    one: SimplePikaTopicConsumer | SimplePikaTopicPublisher
    if kind == "consumer":
        one = SimplePikaTopicConsumer(
            url, "miros.mesh", "#", on_message=print, tls=trusting, on_change=faults.note
        )
    else:
        one = SimplePikaTopicPublisher(
            url, "miros.mesh", "key", tls=trusting, on_change=faults.note
        )
    faults.of = one
    one.start_thread()
    try:
        wait_until(lambda: "calls itself 'Another'" in faults, scaled(20))
    finally:
        one.stop_thread()
    assert not broker.passwords()
    assert PASSWORD.encode() not in fakes.received


# Charts.

KEY = Fernet.generate_key()


@pytest.mark.usefixtures("io")
def test_no_connection_of_a_chart_gives_a_password_to_what_took_the_place_of_rabbitmq(
    fakes: Fakes,
) -> None:
    """The scout has seen RabbitMQ there, and the snoops and the mesh connect again later."""
    broker = FalseBroker(fakes)
    chart, _ = make_active_object(
        "chart",
        rabbit_user=USER,
        rabbit_password=PASSWORD,
        mesh_encryption_key=KEY,
        rabbit_host=broker.address.host,
        rabbit_port=broker.address.port,
        addresses=[],
        start_timeout=scaled(5),
        rescan_interval=1.0,
        limits=LIMITS,
    )
    chart.nets.enable_snoop_trace()
    chart.nets.enable_snoop_spy()
    with running(chart):
        wait_until(lambda: len(broker.passwords()) >= 5, scaled(20))
        broker.start = other = start_with(product="Another")
        connections = broker.connections
        broker.hang_up()
        wait_until(lambda: broker.connections >= connections + 12, 30)
        assert broker.passwords(other) == []


ATTACKS: list[tuple[type[Any], Attack]] = [
    (spec.Confirm.Select, many(method(spec.Connection.Blocked("x")))),
    (spec.Confirm.Select, lambda n, _: endlessly(raw(3, n, b"", size=2**32 - 1)[:-1], MANY)),
    (spec.Basic.Publish, returning(2**40)),
    (spec.Basic.Publish, returning(50)),
]


@pytest.mark.parametrize(("after", "attack"), ATTACKS)
@pytest.mark.usefixtures("io")
def test_charts_go_on_talking_by_another_broker_while_one_attacks(
    fakes: Fakes, broker_a: LocalBroker, after: type[Any], attack: Attack
) -> None:
    broker = FalseBroker(fakes, after, attack)
    arguments = arguments_for(broker_a, key=KEY)
    arguments["addresses"] = [str(broker_a.address), str(broker.address)]
    one, _ = make_active_object("one", **arguments)
    other, heard = make_active_object("other", **arguments_for(broker_a, key=KEY))
    before, threads = resident_bytes(), 0
    with running(one, other):
        wait_until(lambda: broker.connections >= 2, scaled(20))
        threads = threading.active_count()
        for number in range(500):
            one.transmit(Event(signal="NUMBER", payload=number))
        heard.wait_for(500, scaled(20))
        wait_until(lambda: broker.connections >= 3, scaled(30))
        assert threading.active_count() >= threads - 2
        assert heard.payloads("NUMBER") == list(range(500))
        assert resident_bytes() - before < MOST_GROWTH
