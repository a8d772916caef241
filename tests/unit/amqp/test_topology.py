"""The queues that are declared at a broker."""

from __future__ import annotations

from miros_rabbitmq import Limits, Queue
from miros_rabbitmq.amqp.topology import mesh_queue, snoop_queue


def test_no_queue_is_neither_durable_nor_exclusive_as_newer_brokers_refuse_it() -> None:
    queues = mesh_queue(Limits()), snoop_queue(Limits()), Queue()
    assert all(queue.durable or queue.exclusive for queue in queues)


def test_a_charts_queue_has_a_name_that_is_drawn() -> None:
    assert mesh_queue(Limits()).drawn
    assert not snoop_queue(Limits()).drawn, "the broker names it"
