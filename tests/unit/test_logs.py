"""Log lines of threads that must not wait: written by another thread, in order, and bounded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from miros_rabbitmq.logs import MustNotWait, RelayedLogger, must_not_wait, write_all

from ..helpers import scaled, wait_until

NAME = "miros_rabbitmq.tests.logs"


class SlowHandler(logging.Handler):
    """A handler that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.records: list[logging.LogRecord] = []
        self.threads: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        assert self.may_go_on.wait(scaled(30))
        self.threads.add(threading.current_thread().name)
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[SlowHandler]:
    slow = SlowHandler()
    logger = logging.getLogger(NAME)
    logger.addHandler(slow)
    logger.setLevel(logging.INFO)
    yield slow
    slow.may_go_on.set()
    assert write_all(scaled(30))
    logger.removeHandler(slow)
    logger.setLevel(logging.NOTSET)


def in_thread(job: Callable[[], object]) -> None:
    """Do something in a thread that must not wait, and see that it did not."""
    thread = MustNotWait(target=job, name="does not wait")
    thread.start()
    thread.join(scaled(20))
    assert not thread.is_alive()


def test_a_thread_that_must_not_wait_does_not_wait_for_a_handler(handler: SlowHandler) -> None:
    logger = RelayedLogger(NAME)

    def log() -> None:
        assert must_not_wait()
        for number in range(100):
            logger.info("line %d", number)

    in_thread(log)
    assert handler.records == []
    handler.may_go_on.set()
    assert write_all(scaled(20))
    assert [record.getMessage() for record in handler.records] == [f"line {n}" for n in range(100)]
    assert handler.threads == {"miros log"}


def test_a_record_says_who_logged_where(handler: SlowHandler) -> None:
    handler.may_go_on.set()
    logger = RelayedLogger(NAME)

    def fail() -> None:
        try:
            raise ValueError("of some kind")
        except ValueError:
            logger.exception("it failed")

    in_thread(fail)
    assert write_all(scaled(20))
    (record,) = handler.records
    assert (record.levelname, record.funcName, record.threadName) == (
        "ERROR",
        "fail",
        "does not wait",
    )
    assert record.pathname == __file__
    assert record.exc_info
    assert "of some kind" in str(record.exc_info[1])


def test_lines_beyond_the_bound_are_dropped_and_counted(
    handler: SlowHandler, caplog: pytest.LogCaptureFixture
) -> None:
    logger = RelayedLogger(NAME)

    def flood() -> None:
        for number in range(5_000):
            logger.warning("line %d", number)

    in_thread(flood)
    handler.may_go_on.set()
    assert write_all(scaled(20))
    assert 1_000 <= len(handler.records) < 5_000
    assert handler.records[-1].getMessage() == "line 4999"
    wait_until(lambda: "log lines were dropped" in caplog.text)


def test_any_other_thread_logs_as_usual(handler: SlowHandler) -> None:
    handler.may_go_on.set()
    assert not must_not_wait()
    RelayedLogger(NAME).info("at once")
    assert [record.getMessage() for record in handler.records] == ["at once"]
    assert handler.threads == {threading.current_thread().name}


def test_what_is_below_the_level_is_not_made(handler: SlowHandler) -> None:
    in_thread(lambda: RelayedLogger(NAME).debug("%s", object()))
    handler.may_go_on.set()
    assert write_all(scaled(20))
    assert handler.records == []
