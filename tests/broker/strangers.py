"""What strangers do who have RabbitMQ's password: publish anything anywhere, and see everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pika

from miros_rabbitmq import (
    Delivery,
    LocalBroker,
    RejectReason,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.wire.envelope import MESH
from miros_rabbitmq.wire.message import Header, read_header, read_records

from ..helpers import scaled
from .charts import Chart

Send = Callable[..., None]


def rejected(chart: Chart) -> dict[RejectReason, int]:
    """What a chart has rejected on the mesh."""
    return dict(chart.nets.stats().mesh.rejected)


@contextlib.contextmanager
def attacker(broker: LocalBroker, key: str, exchange: str = MESH) -> Iterator[Send]:
    """Publishes any bytes, each as a message of its own."""
    publisher = SimplePikaTopicPublisher(broker.url(), exchange, key)
    publisher.start_thread()
    try:
        assert publisher.wait_until_ready(scaled(25))

        def send(*bodies: bytes) -> None:
            for body in bodies:
                publisher.post_fifo(body)
            assert publisher.flush(scaled(25))

        yield send
    finally:
        assert publisher.stop_thread()


@contextlib.contextmanager
def tap(broker: LocalBroker, exchange: str = MESH, key: str = "#") -> Iterator[list[Delivery]]:
    """Sees every message of an exchange, as a broker's administrator does."""
    seen: list[Delivery] = []
    consumer = SimplePikaTopicConsumer(broker.url(), exchange, key, on_message=seen.append)
    consumer.start_thread()
    try:
        assert consumer.wait_until_ready(scaled(25))
        yield seen
    finally:
        assert consumer.stop_thread()


def check_nonces(seen: Iterable[Delivery]) -> None:
    """No two records have the same key and nonce, unless one is the other, sent again."""
    known: dict[tuple[str, Header, bytes], bytes] = {}
    for message in seen:
        header = read_header(message.body)
        for nonce, ciphertext in read_records(message.body, 1_000_000):
            used = (message.exchange, header, nonce)
            assert known.setdefault(used, ciphertext) == ciphertext


@contextlib.contextmanager
def amqp(broker: LocalBroker) -> Iterator[Any]:
    """A channel of pika's in confirm mode, for whatever else AMQP can do."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url()))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        connection.close()


def queue_bound_with(broker: LocalBroker, pattern: str, exchange: str = MESH) -> str:
    """Find the queue of a chart, by the pattern with which it is bound."""
    text = broker.ctl("list_bindings", "source_name", "destination_name", "routing_key")
    rows = [line.split("\t") for line in text.splitlines()]
    (queue,) = {queue for source, queue, key in rows if (source, key) == (exchange, pattern)}
    return queue
