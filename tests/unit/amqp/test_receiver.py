"""A receiver that is not connected: the queue it will ask for."""

from __future__ import annotations

from typing import Any

from miros_rabbitmq.amqp.link import Role
from miros_rabbitmq.amqp.parameters import Endpoint
from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.receiver import Outcome, Receiver, Source
from miros_rabbitmq.amqp.topology import Queue, mesh_queue
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.urls import AmqpUrl

URL = AmqpUrl("amqp://user:password@127.0.0.2:5672/%2F")


class NoTaker:
    """Takes nothing: no message ever comes."""

    most_bytes = None

    def begin(self) -> None:
        pass

    def take(self, delivery: Any) -> Outcome:
        raise AssertionError("there is no message")

    def refuse_oversize(self, delivery: Any) -> bool:
        raise AssertionError("there is no message")

    def forget(self) -> None:
        pass


def receiver_of(queue: Queue) -> Receiver:
    source = Source("test.exchange", "key", queue)
    role = Role("consumer of tell-tale")
    return Receiver(Endpoint(URL), role, source, NoTaker(), Reactor("test"))


def test_each_receiver_of_one_description_has_a_queue_of_its_own() -> None:
    queue = mesh_queue(Limits())
    names = {receiver_of(queue).queue_name for _ in range(3)}
    assert len(names) == 3
    assert not [name for name in names if "tell-tale" in name]


def test_a_forked_child_leaves_its_parents_queue_alone() -> None:
    receiver = receiver_of(mesh_queue(Limits()))
    before = receiver.queue_name
    receiver.disown()
    assert receiver.queue_name != before
    named = receiver_of(Queue("orders", True, False))
    named.disown()
    assert named.queue_name == "orders"
