"""Fixtures for pytest: private RabbitMQ nodes for the tests of code that uses this package.

Not imported by the package itself; a test suite asks for it in its top ``conftest.py``::

    pytest_plugins = ["miros_rabbitmq.testing"]

A node boots in about 4 s. Tests that do not harm a node may share one: wrap ``LocalBroker`` in a
fixture of session scope.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .broker.local_broker import LocalBroker

BrokerFactory = Callable[..., LocalBroker]
"""Takes the arguments of ``LocalBroker`` and returns one that is started."""


@pytest.fixture
def broker_factory() -> Iterator[BrokerFactory]:
    """Make started ``LocalBroker`` nodes; all of them are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def make(*args: Any, **keywords: Any) -> LocalBroker:
            return stack.enter_context(LocalBroker(*args, **keywords))

        yield make


@pytest.fixture
def local_broker(broker_factory: BrokerFactory) -> LocalBroker:
    """A started ``LocalBroker`` on 127.0.0.1 and a free port, for one test alone."""
    return broker_factory()
