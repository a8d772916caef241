"""Fixtures for every test: the leak check, and private RabbitMQ nodes to share."""

from __future__ import annotations

import contextlib
import gc
import inspect
import logging
import os
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker

import pytest

from miros_rabbitmq.broker.local_broker import LocalBroker
from miros_rabbitmq.broker.node_files import find_rabbitmq
from miros_rabbitmq.exceptions import LocalBrokerError
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.said_before import said_before

from .helpers import scaled, wait_until
from .leaks import Holdings

pytest_plugins = ["miros_rabbitmq.testing"]

LEAK_TIMEOUT_S = 15.0
"""How long a test's threads and processes may take to end after it; bounded joins end sooner."""


@pytest.fixture(scope="session", autouse=True)
def _multiprocessing_helper() -> None:
    """Start the helper process that multiprocessing starts once and keeps; it is not a leak."""
    resource_tracker.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Have programs end on Ctrl-C, also where a shell runs the tests in the background.

    There it has SIGINT ignored, and every program inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _patient_rabbitmqctl() -> None:
    """It boots an Erlang of its own, which takes more than the usual minute on a busy machine."""
    inspect.unwrap(LocalBroker.ctl).__kwdefaults__["timeout"] = scaled(200)


@pytest.fixture(autouse=True)
def no_leaks(_multiprocessing_helper: None) -> Iterator[None]:
    """Fail a test that leaves a thread, a file descriptor or a child process behind."""
    before = Holdings.now()
    yield
    if not Holdings.now().since(before):
        return
    gc.collect()  # what only the exception of a finished test still refers to
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not Holdings.now().since(before), LEAK_TIMEOUT_S)
    leaks = Holdings.now().since(before)
    if leaks:
        pytest.fail("the test left behind: " + ", ".join(leaks), pytrace=False)


class SettledLog(pytest.LogCaptureFixture):  # type: ignore[misc]  # it is marked as final
    """What was logged so far, with the lines that another thread has still to write.

    Threads that must not wait have their lines written by another one (``miros_rabbitmq.logs``), so
    that a test may look before they are there, or get lines from before a ``clear``.
    """

    @property
    def records(self) -> list[logging.LogRecord]:
        write_all(scaled(5))
        return super().records

    @property
    def text(self) -> str:
        write_all(scaled(5))
        return super().text

    def clear(self) -> None:
        write_all(scaled(5))
        super().clear()


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, settled."""
    caplog.__class__ = SettledLog
    return caplog


@pytest.fixture(autouse=True)
def _nothing_said_before() -> None:
    """Have each test read whole texts: this process may have said them in another one."""
    said_before.forget()


@pytest.fixture(scope="session")
def rabbitmq_installed() -> None:
    """Skip the tests that need RabbitMQ if it is not installed; in CI they fail instead."""
    try:
        find_rabbitmq()
    except LocalBrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _shared_brokers(rabbitmq_installed: None) -> Iterator[tuple[LocalBroker, LocalBroker]]:
    # One password for both, because every broker of a system needs the same credentials.
    password = secrets.token_urlsafe()
    hosts = "127.0.0.2", "127.0.0.3"
    brokers = LocalBroker(hosts[0], password=password), LocalBroker(hosts[1], password=password)
    with contextlib.ExitStack() as stack:
        for broker in brokers:
            stack.callback(broker.stop)
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(lambda broker: broker.start(scaled(60)), brokers))
        yield brokers
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(LocalBroker.stop, brokers))


@pytest.fixture(scope="session")
def broker_a(_shared_brokers: tuple[LocalBroker, LocalBroker]) -> LocalBroker:
    """A node on 127.0.0.2 that all tests share: use it, but do not harm it."""
    return _shared_brokers[0]


@pytest.fixture(scope="session")
def broker_b(_shared_brokers: tuple[LocalBroker, LocalBroker]) -> LocalBroker:
    """A node on 127.0.0.3 that all tests share: use it, but do not harm it."""
    return _shared_brokers[1]
