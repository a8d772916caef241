"""What a publisher takes and refuses, before there is any connection."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.consumer import SimplePikaTopicConsumer
from miros_rabbitmq.amqp.publisher import PikaTopicPublisher, SimplePikaTopicPublisher
from miros_rabbitmq.amqp.topology import Queue
from miros_rabbitmq.exceptions import BackPressure, NetworkStopped, PayloadRefused, SettingsError
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.nets.settings import Settings
from miros_rabbitmq.nets.topic import TopicNetwork, TopicSpec
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import Identity

from ...helpers import scaled, wait_until

URL = "amqp://user:password@127.0.0.2:5672/%2F"
EXCHANGE = "test.exchange"


def simple(**options: Any) -> SimplePikaTopicPublisher:
    return SimplePikaTopicPublisher(URL, EXCHANGE, "key", **options)


def full(publisher: SimplePikaTopicPublisher) -> None:
    """Fill a FIFO that holds one message, of a publisher that believes to be connected."""
    publisher._absent_at_s = math.inf
    publisher.post_fifo("the first")
    assert not publisher.has_room


def of_values(**options: Any) -> PikaTopicPublisher:
    codec = Codec(EXCHANGE, Fernet.generate_key())
    return PikaTopicPublisher(URL, EXCHANGE, "key", codec=codec, name="values", **options)


@pytest.mark.parametrize("post", ["post_fifo", "post_token"])
@pytest.mark.parametrize("bad", [5, None, [1], ("a",), object(), "\ud800"], ids=repr)
def test_what_is_neither_bytes_nor_text_is_refused_and_nothing_of_it_posted(
    post: str, bad: Any
) -> None:
    publisher = simple()
    with pytest.raises(PayloadRefused, match=r"message .*bytes"):
        getattr(publisher, post)(bad)
    assert publisher.stats().waiting == 0
    assert publisher.is_flushed
    getattr(publisher, post)("good")
    assert publisher.stats().waiting == 1


def test_whatever_has_bytes_is_posted_as_they_are_now() -> None:
    publisher = simple()
    changing = bytearray(b"array")
    for message in (b"bytes", "t\u00e9xt", changing, memoryview(b"a view")[2:]):
        publisher.post_fifo(message)
    changing[:] = b"other"
    batches = iter(publisher._outbox.take, None)
    posted = [token for batch in batches if batch is not None for token in batch.tokens]
    assert posted == [b"bytes", "t\u00e9xt".encode(), b"array", b"view"]


@pytest.mark.parametrize("bad", [None, "", 5, b"bytes", "k" * 256], ids=str)
def test_names_that_amqp_does_not_have_are_refused_at_construction(bad: Any) -> None:
    for make in (SimplePikaTopicPublisher, SimplePikaTopicConsumer):
        options: dict[str, Any] = {} if make is SimplePikaTopicPublisher else {"on_message": print}
        with pytest.raises(SettingsError, match="exchange_name"):
            make(URL, bad, "key", **options)
        with pytest.raises(SettingsError, match="routing_key"):
            make(URL, EXCHANGE, bad, **options)


def test_an_id_and_a_separator_that_cannot_be_sent_are_refused_at_construction() -> None:
    with pytest.raises(SettingsError, match="sender_id"):
        simple(sender_id=5)
    with pytest.raises(SettingsError, match="separator is bytes"):
        simple(separator="\n")


def test_threads_that_wait_for_room_wait_at_the_same_time() -> None:
    publisher = of_values(limits=Limits(backlog_events=1))
    full(publisher)
    waited_s: list[float] = []

    def post() -> None:
        begun_s = time.monotonic()
        with pytest.raises(BackPressure):
            publisher.post_fifo("more", timeout=scaled(0.2))
        waited_s.append(time.monotonic() - begun_s)

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(10))
    assert len(waited_s) == 8
    assert max(waited_s) < scaled(0.8), "one after the other, it is 1.6 s for the last"
    assert publisher.stats().waiting == 1


def test_threads_that_wait_for_room_number_what_they_post_without_a_gap() -> None:
    publisher = of_values(limits=Limits(backlog_events=1))
    full(publisher)
    threads = [threading.Thread(target=publisher.post_fifo, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    tokens: list[bytes] = []

    def take() -> bool:
        with publisher._changed:
            batch = publisher._outbox.take()
            if batch is not None:
                tokens.extend(batch.tokens)
                publisher._outbox.confirm(batch.tag)
                publisher._changed.notify_all()
        return len(tokens) == 9

    wait_until(take)
    for thread in threads:
        thread.join(scaled(5))
    envelopes = [publisher._codec.decode(token) for token in tokens]
    assert [one.sequence for one in envelopes] == list(range(1, 10))
    assert {one.body for one in envelopes} == {"the first", *range(8)}


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
    with publisher._changed:  # as `stop` does, had it been started
        publisher._stop_asked = True
        publisher._changed.notify_all()
    thread.join(scaled(5))
    assert ended


def test_a_flush_without_a_timeout_has_the_usual_one() -> None:
    assert simple().flush() is True
    assert simple().flush(None) is True
    key = Fernet.generate_key()
    spec = TopicSpec("mesh", "key", "key", (key,), Queue(), lossy=False, check_body=bool)
    settings = Settings("user", "password", key)
    network = TopicNetwork(spec, settings, Identity.new("flushed"), on_envelope=print)
    assert network.flush(None) is True
