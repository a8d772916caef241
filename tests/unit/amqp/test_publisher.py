"""What a publisher accepts and refuses, before there is any connection."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pika.spec
import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.consumer import SimplePikaTopicConsumer
from miros_rabbitmq.amqp.link import Role
from miros_rabbitmq.amqp.link_state import SessionState
from miros_rabbitmq.amqp.publisher import PikaTopicPublisher, SimplePikaTopicPublisher
from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.sender import Sender, Traffic
from miros_rabbitmq.amqp.sinks import DirectSink
from miros_rabbitmq.amqp.standalone import endpoint_of
from miros_rabbitmq.amqp.topology import Queue
from miros_rabbitmq.delivery.outbox import DropReason
from miros_rabbitmq.delivery.refusal import Refusal
from miros_rabbitmq.delivery.slowness import Condition
from miros_rabbitmq.exceptions import BackPressure, NetworkStopped, PayloadRefused, SettingsError
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.nets.settings import Settings
from miros_rabbitmq.nets.topic import Hooks, Reactors, TopicNetwork, TopicSpec
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import unpack
from miros_rabbitmq.wire.sealer import Heading, Record

from ...helpers import scaled, wait_until

URL = "amqp://user:password@127.0.0.2:5672/%2F"
EXCHANGE = "test.exchange"
CODEC = Codec(Fernet.generate_key())


def simple(**options: Any) -> SimplePikaTopicPublisher:
    return SimplePikaTopicPublisher(URL, EXCHANGE, "key", **options)


class FakeWire:
    """Publishes into a list, and confirms when it is told to."""

    name = "fake"
    writes_from_any_thread = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.routing_keys: list[str] = []
        self.calls: deque[Callable[[], object]] = deque()
        self._on_ack: Any = None
        self._confirmed = 0

    def publishing(self, _channel: Any, _outbound: Any, on_ack: Any) -> FakeWire:
        self._on_ack = on_ack
        return self

    def publish(self, routing_key: str, body: bytes) -> bool:
        self.routing_keys.append(routing_key)
        self.bodies.append(body)
        return True

    def run(self) -> None:
        """Call back what was to be called soon."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def confirm(self) -> None:
        """Confirm everything that was published."""
        if len(self.bodies) > self._confirmed:
            self._confirmed = len(self.bodies)
            self._on_ack(self._confirmed, True)


def sender_of(publisher: SimplePikaTopicPublisher | PikaTopicPublisher) -> Sender:
    """The sender inside a publisher, put into the state of a connected one without a connection."""
    sender = getattr(publisher, "_sender")  # noqa: B009 - and so not read by the type check either
    assert isinstance(sender, Sender)
    return sender


def connected(publisher: SimplePikaTopicPublisher | PikaTopicPublisher) -> FakeWire:
    """Make a publisher believe that it is connected; `FakeWire.run` acts as its reactor."""
    return connect(sender_of(publisher))


def connect(sender: Sender) -> FakeWire:
    """The same for a sender."""
    wire = FakeWire()
    sender.link.call_soon = wire.calls.append  # type: ignore[method-assign, assignment]
    sender.on_ready(SimpleNamespace(is_open=True), wire)  # type: ignore[arg-type]
    return wire


def full(publisher: SimplePikaTopicPublisher | PikaTopicPublisher) -> FakeWire:
    """Fill the FIFO of a publisher that believes it is connected; it holds one message."""
    wire = connected(publisher)
    publisher.post_fifo("the first")
    wire.run()
    assert not publisher.has_room
    return wire


def of_values(**options: Any) -> PikaTopicPublisher:
    return PikaTopicPublisher(URL, EXCHANGE, "key", codec=CODEC, name="values", **options)


@pytest.mark.parametrize("bad", [5, None, [1], ("a",), object(), "\ud800"], ids=repr)
def test_a_message_that_is_neither_bytes_nor_text_is_refused_and_nothing_is_posted(
    bad: Any,
) -> None:
    publisher = simple()
    with pytest.raises(PayloadRefused, match=r"message .*bytes"):
        publisher.post_fifo(bad)
    with pytest.raises(PayloadRefused, match=r"message .*bytes"):
        publisher.publish_aside("key", bad, expires_s=1.0)
    assert publisher.stats().waiting == 0
    assert publisher.is_flushed
    publisher.post_fifo("good")
    assert publisher.stats().waiting == 1


def test_bytes_are_posted_as_they_are_at_this_moment() -> None:
    publisher = simple()
    changing = bytearray(b"array")
    for message in (b"bytes", "t\u00e9xt", changing, memoryview(b"a view")[2:]):
        publisher.post_fifo(message)
    changing[:] = b"other"
    assert connected(publisher).bodies == [b"bytes", "t\u00e9xt".encode(), b"array", b"view"]


@pytest.mark.parametrize("bad", [None, "", 5, b"bytes", "k" * 256], ids=str)
def test_names_that_amqp_does_not_allow_are_refused_at_construction(bad: Any) -> None:
    for make in (SimplePikaTopicPublisher, SimplePikaTopicConsumer):
        options: dict[str, Any] = {} if make is SimplePikaTopicPublisher else {"on_message": print}
        with pytest.raises(SettingsError, match="exchange_name"):
            make(URL, bad, "key", **options)
        with pytest.raises(SettingsError, match="routing_key"):
            make(URL, EXCHANGE, bad, **options)


@pytest.mark.parametrize("bad", [None, "", 5, b"bytes", "n" * 256], ids=str)
def test_a_sender_name_that_every_receiver_would_reject_is_refused(bad: Any) -> None:
    with pytest.raises(SettingsError, match="name must be a text of 1 to 255 characters"):
        PikaTopicPublisher(URL, EXCHANGE, "key", codec=CODEC, name=bad)


@pytest.mark.parametrize("bad", ["", 5, b"bytes", "k" * 256], ids=str)
def test_a_routing_key_that_amqp_does_not_allow_is_refused_and_nothing_is_posted(bad: Any) -> None:
    for publisher in (simple(), of_values()):
        with pytest.raises(SettingsError, match="routing_key"):
            publisher.post_fifo("message", routing_key=bad)
        assert publisher.stats().waiting == 0


def test_a_message_goes_by_the_publishers_routing_key_unless_it_is_given_another() -> None:
    publisher = simple()
    for key in ("another", None, "key", "ключ"):
        publisher.post_fifo("message", routing_key=key)
    assert connected(publisher).routing_keys == ["another", "key", "key", "ключ"]


def test_messages_of_a_simple_publisher_are_never_joined() -> None:
    publisher = simple()
    for text in "abc":
        publisher.post_fifo(text)
    assert connected(publisher).bodies == [b"a", b"b", b"c"]


def opened(wire: FakeWire) -> list[tuple[str, int, Any]]:
    """The routing keys, numbers and values that were published, in order."""
    opener = Opener(CODEC, EXCHANGE, most_records=1_000)
    found = []
    for key, body in zip(wire.routing_keys, wire.bodies, strict=True):
        for plain in opener.open(body, key).contents:
            content = unpack(plain)
            assert content.sender == "values"
            found.append((key, content.sequence, CODEC.deserialize(content.body)))
    return found


def test_values_are_numbered_by_routing_key_and_joined_with_their_neighbours() -> None:
    publisher = of_values()
    for value, key in enumerate([None, "key", "another", "another", None]):
        publisher.post_fifo(value, routing_key=key)
    wire = connected(publisher)
    assert wire.routing_keys == ["key", "another", "key"]
    assert opened(wire) == [
        ("key", 1, 0),
        ("key", 2, 1),
        ("another", 1, 2),
        ("another", 2, 3),
        ("key", 3, 4),
    ]


def test_a_refused_value_takes_no_number() -> None:
    publisher = of_values()
    for good, bad in ((0, object()), (1, print), (2, b"x" * 2**20)):
        publisher.post_fifo(good)
        with pytest.raises(PayloadRefused):
            publisher.post_fifo(bad)
    assert [number for _, number, _ in opened(connected(publisher))] == [1, 2, 3]


def test_a_value_that_the_exchange_does_not_carry_is_refused() -> None:
    publisher = PikaTopicPublisher(URL, MESH, "key", codec=CODEC, name="values")
    with pytest.raises(PayloadRefused, match=r"a list of int, and miros\.mesh carries"):
        publisher.post_fifo([1])
    publisher.post_fifo(("SIGNAL", None))
    assert publisher.stats().waiting == 1


def test_threads_that_wait_for_room_wait_at_the_same_time() -> None:
    publisher = of_values(limits=Limits(backlog_events=1))
    full(publisher)
    waited_s: list[float] = []

    def post() -> None:
        begun_s = time.monotonic()
        with pytest.raises(BackPressure):
            publisher.post_fifo("more", timeout=scaled(0.5))
        waited_s.append(time.monotonic() - begun_s)

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(30))
    assert len(waited_s) == 8
    assert max(waited_s) < scaled(3), "one after the other, it is 4 s for the last"
    stats = publisher.stats()
    assert stats.waiting + stats.unconfirmed == 1


def test_threads_that_wait_for_room_number_what_they_post_without_a_gap() -> None:
    publisher = of_values(limits=Limits(backlog_events=1))
    wire = full(publisher)
    threads = [threading.Thread(target=publisher.post_fifo, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()

    def all_were_sent() -> bool:
        wire.confirm()
        wire.run()
        return len(wire.bodies) == 9

    wait_until(all_were_sent)
    for thread in threads:
        thread.join(scaled(20))
    sent = opened(wire)
    assert [number for _, number, _ in sent] == list(range(1, 10))
    assert {value for _, _, value in sent} == {"the first", *range(8)}


def test_a_stop_ends_the_wait_for_room() -> None:
    publisher = of_values(limits=Limits(backlog_events=1))
    full(publisher)
    ended: list[bool] = []

    def post() -> None:
        with pytest.raises(NetworkStopped):
            publisher.post_fifo("more", timeout=scaled(30))
        ended.append(True)

    thread = threading.Thread(target=post)
    thread.start()
    sender = sender_of(publisher)
    sender.link.is_stopping = True  # as in `stop`, if it had been started
    sender.on_state()
    thread.join(scaled(20))
    assert ended


def test_a_flush_without_a_timeout_has_the_default_timeout() -> None:
    assert simple().flush() is True
    assert simple().flush(None) is True
    key = Fernet.generate_key()
    spec = TopicSpec("mesh", "key", "key", (key,), Queue(), lossy=False)
    settings = Settings("user", "password", key)
    hooks = Hooks(DirectSink("flushed", print))
    network = TopicNetwork(spec, settings, "flushed", Reactors.of("flushed"), hooks)
    assert network.flush(None) is True


def test_a_flush_waits_for_a_first_attempt_that_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = simple()
    sender = sender_of(publisher)
    monkeypatch.setattr(sender.link, "start", lambda: None)
    sender.start()
    publisher.post_fifo("waits for the first connection")
    assert not publisher.is_flushed
    assert not publisher.flush(0.01, if_absent=False)
    flushed: list[bool] = []
    thread = threading.Thread(
        target=lambda: flushed.append(publisher.flush(scaled(30), if_absent=False))
    )
    thread.start()
    wire = connected(publisher)
    wire.confirm()
    thread.join(scaled(20))
    assert flushed == [True]


def test_a_flush_does_not_wait_for_a_broker_whose_first_attempt_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = simple()
    sender = sender_of(publisher)
    monkeypatch.setattr(sender.link, "start", lambda: None)
    sender.start()
    publisher.post_fifo("for a broker that is not there")
    sender.on_lost()
    assert publisher.is_flushed
    assert publisher.flush(scaled(30), if_absent=False)


def test_a_post_to_an_idle_publisher_is_sent_at_once() -> None:
    publisher = simple()
    wire = connected(publisher)
    publisher.post_fifo("at once")
    wire.run()
    assert wire.bodies == [b"at once"]
    assert publisher.stats().unconfirmed == 1


def test_unconfirmed_messages_are_sent_again_first_and_confirmed_ones_are_not() -> None:
    publisher = simple()
    for text in "abc":
        publisher.post_fifo(text)
    wire = connected(publisher)
    assert wire.bodies == [b"a", b"b", b"c"]
    wire.confirm()
    assert publisher.is_flushed
    sender = sender_of(publisher)
    for text in "de":
        publisher.post_fifo(text)
        wire.run()
    assert wire.bodies[3:] == [b"d", b"e"]
    sender.on_lost()
    publisher.post_fifo("f")
    assert connected(publisher).bodies == [b"d", b"e", b"f"]


def test_a_confirm_of_a_connection_that_was_given_up_confirms_nothing() -> None:
    publisher = simple()
    publisher.post_fifo("sent, and lost")
    wire = connected(publisher)
    sender_of(publisher).on_lost()
    wire.confirm()
    assert publisher.stats().waiting == 1
    assert publisher.stats().confirmed == 0


# What the broker refuses.

TOO_LARGE = "PRECONDITION_FAILED - message size 9 is larger than configured max size 3"


def lose(sender: Sender, refusal: Refusal | None) -> None:
    """Lose the connection as its link does."""
    sender.link.take_refusal = lambda: refusal  # type: ignore[method-assign]
    sender.on_lost()


def test_what_a_broker_takes_is_learned_from_its_words_and_the_rest_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: list[DeliveryProblem] = []
    sender = Sender(
        endpoint_of(URL, None, None),
        Role("sender"),
        Traffic(EXCHANGE),
        Reactor("never started"),
        report=problems.append,
    )
    heading = Heading("key", b"")

    def post(*texts: bytes) -> None:
        for text in texts:
            if sender.enqueue(Record(heading, text)):
                sender.attend()

    post(b"a", b"four", b"b")
    connect(sender)
    lose(sender, Refusal(406, TOO_LARGE, is_certain=True))
    wire = connect(sender)
    wire.confirm()
    post(b"also four", b"c")
    wire.run()
    wire.confirm()
    assert wire.bodies == [b"a", b"b", b"c"]
    lose(sender, None)
    # What comes back may be another broker, or one of which somebody has raised the limit.
    post(b"after a loss", b"d")
    wire = connect(sender)
    wire.confirm()
    assert wire.bodies == [b"after a loss", b"d"]
    stats = sender.stats()
    assert (stats.confirmed, stats.drops[DropReason.REFUSED], stats.waiting) == (5, 2, 0)
    assert sender.is_flushed
    assert write_all(5.0)
    assert caplog.text.count("Meanwhile it gets what it takes") == 1
    assert caplog.text.count("gave up an event of 4 bytes with the routing key 'key'") == 1
    assert caplog.text.count("gave up") == 1, "one line for each burst"
    assert [(one.kind, one.events) for one in problems] == [(ProblemKind.REFUSED, 1)] * 2


def test_what_is_held_goes_out_when_it_is_held_no_longer_but_not_to_a_broker_that_blocks() -> None:
    sender = Sender(
        endpoint_of(URL, None, None),
        Role("sender"),
        Traffic(EXCHANGE, joined=True, lossy=True),
        Reactor("never started"),
    )
    heading = Heading("key", b"")

    def post(text: bytes) -> None:
        if sender.enqueue(Record(heading, text)):
            sender.attend()

    wire = connect(sender)
    sender.link.state = SessionState.READY
    sender.hold(held=True)
    post(b"a")
    wire.run()
    assert wire.bodies == []
    sender.hold(held=False)
    assert wire.bodies == [b"a"]
    sender.hold(held=True)
    sender.link.state = SessionState.BLOCKED
    sender.hold(held=False)
    post(b"b")
    wire.run()
    assert wire.bodies == [b"a"]


def test_a_look_counts_what_has_left_of_a_message_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = simple()
    sender = sender_of(publisher)
    wire = connected(publisher)
    monkeypatch.setattr(type(sender.link), "bytes_unsent", 600)
    publisher.post_fifo(b"x" * 1_000)
    wire.run()
    assert (sender.look().taken_bytes, sender.look().confirmed) == (400, 0)
    wire.confirm()
    assert (sender.look().taken_bytes, sender.look().confirmed) == (1_000, 1)


class Dropping:
    """A sender of which the outbox has room for two."""

    def __init__(self) -> None:
        self.sender = Sender(
            endpoint_of(URL, Limits(backlog_events=2, absent_after_s=0.01), None),
            Role("sender"),
            Traffic(EXCHANGE),
            Reactor("never started"),
        )
        self._heading = Heading("key", b"")

    def post(self, count: int) -> None:
        for _ in range(count):
            self.sender.enqueue(Record(self._heading, b"x"))

    def judge(self, condition: Condition) -> None:
        self.sender.judge(condition, 0.0, yields=condition.is_sick)


FROM_NOW_ON, MEANWHILE = "from now on events are dropped", "events were dropped meanwhile"


def test_what_is_dropped_for_a_slow_broker_is_left_to_its_judge_to_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropping = Dropping()
    sender = dropping.sender
    connect(sender)
    dropping.judge(Condition.SLOW)
    dropping.post(5)
    dropping.judge(Condition.KEEPING_UP)
    lose(sender, None)
    connect(sender)
    assert write_all(5.0)
    assert caplog.messages == []
    lose(sender, None)
    dropping.post(5)
    connect(sender)
    assert write_all(5.0)
    first, last = caplog.messages
    assert FROM_NOW_ON in first
    assert f"5 {MEANWHILE}" in last


def test_a_judge_that_finds_a_broker_behind_says_itself_what_was_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropping = Dropping()
    sender = dropping.sender
    connect(sender)
    lose(sender, None)
    dropping.post(5)
    dropping.judge(Condition.BEHIND)
    connect(sender)
    dropping.judge(Condition.KEEPING_UP)
    assert write_all(5.0)
    assert [FROM_NOW_ON in text for text in caplog.messages] == [True]


def test_drops_end_when_there_is_room_again_also_on_the_same_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropping = Dropping()
    sender = dropping.sender
    wire = connect(sender)
    sender.link.state = SessionState.READY
    dropping.post(5)
    dropping.judge(Condition.KEEPING_UP)
    assert write_all(5.0)
    assert [FROM_NOW_ON in text for text in caplog.messages] == [True]
    sender.attend()
    wire.run()
    wire.confirm()
    for _ in range(3):
        dropping.judge(Condition.KEEPING_UP)
    assert write_all(5.0)
    assert [MEANWHILE in text for text in caplog.messages] == [False, True]


def test_a_message_that_is_refused_without_a_reason_is_given_up_and_the_others_are_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = simple()
    sender = sender_of(publisher)
    for text in "abcdefgh":
        publisher.post_fifo(text)
    taken: list[bytes] = []
    for _ in range(10):
        wire = connected(publisher)
        while b"c" not in wire.bodies:
            count = len(wire.bodies)
            wire.confirm()
            if len(wire.bodies) == count:
                break
        taken += wire.bodies[: wire.bodies.index(b"c")] if b"c" in wire.bodies else wire.bodies
        if b"c" not in wire.bodies:
            break
        lose(sender, Refusal(406, "PRECONDITION_FAILED - no", is_certain=True))
    assert list(dict.fromkeys(taken)) == [b"a", b"b", b"d", b"e", b"f", b"g", b"h"]
    assert publisher.stats().drops[DropReason.REFUSED] == 1
    assert publisher.is_flushed
    assert write_all(5.0)
    assert caplog.text.count("bit by bit") == 1
    assert caplog.text.count("gave up an event of 1 bytes") == 1


def test_nacks_are_repaired_a_few_times_and_then_count_as_refused_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = simple(limits=Limits(nack_attempts=2))
    sender = sender_of(publisher)
    reopened: list[str] = []
    sender.link.reopen = reopened.append  # type: ignore[method-assign, assignment]
    publisher.post_fifo("refused")

    def nack(tag: int) -> None:
        frame = SimpleNamespace(method=pika.spec.Basic.Nack(delivery_tag=tag))
        getattr(sender, "_on_confirm")(frame)  # noqa: B009

    for attempt in range(2):
        wire = connected(publisher)
        nack(1)
        assert len(reopened) == attempt + 1
        sender.on_lost()
        assert publisher.stats().waiting == 1
    wire = connected(publisher)
    nack(1)
    publisher.post_fifo("as well")
    wire.run()
    nack(2)
    assert len(reopened) == 2
    assert publisher.is_flushed
    stats = publisher.stats()
    assert (stats.drops[DropReason.REFUSED], stats.confirmed) == (2, 0)
    assert write_all(5.0)
    assert caplog.text.count("has refused messages (basic.nack) 2 times") == 1


def test_a_nack_of_what_may_be_lost_anyway_costs_no_connection() -> None:
    publisher = simple(lossy=True)
    sender = sender_of(publisher)
    sender.link.reopen = pytest.fail  # type: ignore[method-assign, assignment]
    wire = connected(publisher)
    publisher.post_fifo("a line")
    wire.run()
    frame = SimpleNamespace(method=pika.spec.Basic.Nack(delivery_tag=1))
    getattr(sender, "_on_confirm")(frame)  # noqa: B009
    assert publisher.stats().drops[DropReason.REFUSED] == 1
