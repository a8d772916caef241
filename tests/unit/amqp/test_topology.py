"""The queues that are declared at a broker."""

from __future__ import annotations

import re

from miros_rabbitmq import Limits, Queue
from miros_rabbitmq.amqp.topology import mesh_queue, snoop_queue


def test_no_queue_is_neither_durable_nor_exclusive_as_newer_brokers_refuse_it() -> None:
    queues = mesh_queue(Limits()), snoop_queue(Limits()), Queue()
    assert all(queue.durable or queue.exclusive for queue in queues)


def test_the_name_of_a_charts_queue_says_whose_package_it_is_and_is_random_otherwise() -> None:
    """Who could tell the name before could declare the queue, and the chart would hear nothing."""
    names = {mesh_queue(Limits()).name for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert re.fullmatch(r"miros\.[A-Za-z0-9_-]{22}", name), name
