"""The queues that are declared at a broker."""

from __future__ import annotations

from miros_rabbitmq import Limits, Queue
from miros_rabbitmq.amqp.topology import mesh_queue, snoop_queue
from miros_rabbitmq.wire.envelope import Identity


def test_no_queue_is_neither_durable_nor_exclusive_as_newer_brokers_refuse_it() -> None:
    queues = mesh_queue(Identity.new("chart"), Limits()), snoop_queue(Limits()), Queue()
    assert all(queue.durable or queue.exclusive for queue in queues)


def test_the_name_of_a_charts_queue_contains_the_charts_name_as_far_as_amqp_allows() -> None:
    name = mesh_queue(Identity.new("Küche 1/" + 200 * "x"), Limits()).name
    assert name.startswith("miros.mesh.K_che_1_xxx")
    assert len(name) < 255


def test_two_starts_of_one_chart_have_queues_of_their_own() -> None:
    assert len({mesh_queue(Identity.new("chart"), Limits()).name for _ in range(2)}) == 2
