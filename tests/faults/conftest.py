"""What the tests of faults share: brokers that they may harm, and a watch on the log."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from miros_rabbitmq import Limits, LocalBroker

from ..helpers import scaled
from .proxy import FaultProxy
from .system import HEARTBEAT_S, System

SystemFactory = Callable[..., Any]
"""Takes the number of charts and further arguments, and is a context manager of a `System`."""


@pytest.fixture(scope="session", autouse=True)
def _on_rabbitmq(rabbitmq_installed: None) -> None:
    """Every test of this folder needs RabbitMQ."""


@pytest.fixture(autouse=True)
def _no_unexpected_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which a connection's thread met with an error that is a bug."""
    yield
    texts = [record.getMessage() for record in caplog.get_records("call")]
    assert not [text for text in texts if "unexpected error" in text]


@pytest.fixture(scope="session")
def fragile_brokers(rabbitmq_installed: None) -> Iterator[tuple[LocalBroker, LocalBroker]]:
    """Two nodes that tests may kill; each test leaves them running, open and as they were."""
    password = secrets.token_urlsafe()
    pair = (
        LocalBroker("127.0.0.42", password=password),
        LocalBroker("127.0.0.43", password=password),
    )
    with ExitStack() as stack:
        for broker in pair:
            stack.callback(broker.stop)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda broker: broker.start(scaled(60)), pair))
        yield pair


@pytest.fixture(scope="session")
def third_broker(fragile_brokers: tuple[LocalBroker, LocalBroker]) -> Iterator[LocalBroker]:
    """One more of the same kind."""
    with LocalBroker("127.0.0.45", password=fragile_brokers[0].password) as broker:
        yield broker


@pytest.fixture
def trio(
    fragile_brokers: tuple[LocalBroker, LocalBroker], third_broker: LocalBroker
) -> tuple[LocalBroker, LocalBroker, LocalBroker]:
    """Three nodes that run, and that a test may harm and has to heal."""
    trio = (*fragile_brokers, third_broker)
    for broker in trio:
        if not broker.is_running:
            broker.restart(scaled(60))
    return trio


@pytest.fixture
def systems(fragile_brokers: tuple[LocalBroker, LocalBroker]) -> SystemFactory:
    """Make systems of charts on the fragile brokers, each behind a proxy."""

    @contextmanager
    def make(charts: int = 2, **extras: Any) -> Iterator[System]:
        with ExitStack() as stack:
            for broker in fragile_brokers:
                if not broker.is_running:
                    broker.restart(scaled(60))
            proxies = [
                stack.enter_context(FaultProxy(one.host, one.address)) for one in fragile_brokers
            ]
            limits = extras.pop("limits", None) or Limits(heartbeat_s=HEARTBEAT_S)
            yield System(fragile_brokers, proxies, charts, limits, **extras)

    return make
