"""Exchanges and queues: what is declared at a broker, and with which arguments.

Argument names are those of https://www.rabbitmq.com/docs/queues#optional-arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pika.channel import Channel

from ..limits import Limits


@dataclass(frozen=True)
class Queue:
    """A queue to consume from.

    Args:
        name: the queue's name; if it is empty, the broker chooses one.
        durable: whether the queue, with its persistent messages, survives a restart of the broker.
        exclusive: whether it belongs to the connection, and is deleted with it.
        arguments: RabbitMQ's optional arguments.
        drawn: the queue belongs to one consumer, and nobody else should find it: ``name`` is only
            the beginning, to which each consumer adds random characters. A consumer lets no other
            consume from it beside itself, and takes another name when somebody has taken the queue.
    """

    name: str = ""
    durable: bool = False
    exclusive: bool = True
    arguments: Mapping[str, object] = field(default_factory=dict)
    drawn: bool = False


def mesh_queue(limits: Limits) -> Queue:
    """The queue of one chart: outlives lost connections and restarts, and expires after the chart.

    It is durable even if events are not to survive a restart, which is a property of each message:
    from 4.3 on, RabbitMQ refuses a queue that is neither durable nor exclusive
    (https://www.rabbitmq.com/release-information/deprecated-features-list).
    """
    return Queue(
        name="miros.",
        durable=True,
        exclusive=False,
        arguments={
            "x-expires": int(limits.queue_expires_s * 1000),
            "x-max-length-bytes": limits.queue_bytes,
            "x-overflow": "drop-head",
        },
        drawn=True,
    )


def snoop_queue(limits: Limits) -> Queue:
    """The queue of one watcher: deleted with its connection, and drops lines that are late."""
    return Queue(
        arguments={
            "x-max-length": limits.snoop_queue_messages,
            "x-max-length-bytes": limits.snoop_queue_bytes,
            "x-overflow": "drop-head",
        }
    )


def declare_exchange(channel: Channel, name: str, done: Callable[[], object] | None) -> None:
    """Declare a durable topic exchange, then call ``done``; without it, no answer is sent."""
    channel.exchange_declare(
        name, exchange_type="topic", durable=True, callback=_without_frame(done)
    )


def look_for_exchange(channel: Channel, name: str, done: Callable[[], object] | None) -> None:
    """See that an exchange exists, of whatever type; otherwise as `declare_exchange`."""
    channel.exchange_declare(name, passive=True, callback=_without_frame(done))


def _without_frame(done: Callable[[], object] | None) -> Callable[[object], object] | None:
    return None if done is None else lambda _: done()
