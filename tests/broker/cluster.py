"""A cluster of private RabbitMQ nodes, each on a loopback address of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.broker import node_files, node_process

from ..helpers import scaled


class _OneCookie:
    """Stands in for `secrets` where a node's cookie is drawn: all get the same."""

    def __init__(self) -> None:
        cookie = secrets.token_hex(16)
        self.token_hex: Callable[[int], str] = lambda _: cookie
        self.token_bytes = secrets.token_bytes


@contextmanager
def running_cluster(
    hosts: Sequence[str], password: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[LocalBroker]]:
    """Run a cluster with a node on each host; the first one gives it its name.

    Args:
        hosts: loopback addresses.
        password: that of the user ``miros``.
        monkeypatch: undone by the test.
    """
    plain_free_port = node_process.free_port
    # Without epmd, each node looks for the others at the port where it takes commands itself.
    control_port = plain_free_port(hosts[0])

    def free_port(host: str, **keywords: Any) -> int:
        return control_port if keywords else plain_free_port(host)

    monkeypatch.setattr("miros_rabbitmq.broker.local_broker.free_port", free_port)
    monkeypatch.setattr(node_files, "secrets", _OneCookie())
    with ExitStack() as stack:
        brokers = [LocalBroker(host, password=password) for host in hosts]
        for broker in brokers:
            stack.callback(broker.stop)
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(lambda broker: broker.start(scaled(60)), brokers))
        first = brokers[0]
        for other in brokers[1:]:
            other.ctl("stop_app")
            other.ctl("join_cluster", f"{first.name}@{first.host}")
            other.ctl("start_app")
        yield brokers
