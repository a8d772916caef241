"""The match of patterns and keys, compared with what a real topic exchange does."""

from __future__ import annotations

import random
import secrets
from collections import defaultdict

import pika

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.amqp.topic_pattern import TopicPattern

from ..unit.amqp.test_topic_pattern import EXAMPLES

WORDS = ["a", "a", "b", "", "*", "*", "#", "#", "a*", "##"]


def random_texts(seed: int, count: int) -> set[str]:
    """Patterns, or keys: any text may be either."""
    chosen = random.Random(seed)
    return {".".join(chosen.choices(WORDS, k=chosen.randrange(7))) for _ in range(count)}


def test_a_topic_exchange_decides_as_we_do(broker_a: LocalBroker) -> None:
    patterns = {pattern for pattern, _, _ in EXAMPLES} | random_texts(1, 300)
    keys = {key for _, yes, no in EXAMPLES for key in yes + no} | random_texts(2, 300)
    routed: dict[str, set[str]] = defaultdict(set)
    connection = pika.BlockingConnection(pika.URLParameters(broker_a.url()))
    try:
        channel = connection.channel()
        exchange = f"test.topic.{secrets.token_hex(4)}"
        channel.exchange_declare(exchange, exchange_type="topic", auto_delete=True)
        queues = {}
        for pattern in patterns:
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, exchange, pattern)
            queues[queue] = pattern
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())
        # A last message to each queue says that all of them have come.
        for queue in queues:
            channel.basic_publish("", queue, b"end")
        missing = set(queues)
        for queue, pattern in queues.items():

            def take(
                _channel: object,
                method: pika.spec.Basic.Deliver,
                _properties: object,
                _body: bytes,
                queue: str = queue,
                pattern: str = pattern,
            ) -> None:
                if method.exchange:
                    routed[pattern].add(method.routing_key)
                else:
                    missing.discard(queue)

            channel.basic_consume(queue, take, auto_ack=True)
        while missing:
            connection.process_data_events(time_limit=1)
    finally:
        connection.close()
    ours = {
        pattern: {key for key in keys if TopicPattern(pattern).matches(key)} for pattern in patterns
    }
    wrong = {pattern: ours[pattern] ^ routed[pattern] for pattern in patterns}
    assert {pattern: keys for pattern, keys in wrong.items() if keys} == {}
    assert sum(map(len, ours.values())) > len(patterns)
