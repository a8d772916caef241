"""A cluster of private RabbitMQ nodes, each on a loopback address of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from miros_rabbitmq import LocalBroker

from ..helpers import scaled


@contextmanager
def running_cluster(hosts: Sequence[str], password: str) -> Iterator[list[LocalBroker]]:
    """Run a cluster with a node on each host; the first one gives it its name.

    Args:
        hosts: loopback addresses.
        password: that of the user ``miros``.
    """
    first = LocalBroker(hosts[0], password=password)
    others = [LocalBroker(host, joins=first) for host in hosts[1:]]
    with ExitStack() as stack:
        for broker in (first, *others):
            stack.callback(broker.stop)
        first.start(scaled(60))
        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(lambda broker: broker.start(scaled(60)), others))
        yield [first, *others]
