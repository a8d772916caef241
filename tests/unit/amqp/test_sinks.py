"""What waits for a callback is bounded, in number and in bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from miros_rabbitmq.amqp.sinks import DirectSink, WorkerSink
from tests.helpers import scaled, wait_until


class Slow:
    """A callback that returns when it may."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.may_return = threading.Semaphore(0)

    def __call__(self, event: Any) -> None:
        self.heard.append(event)
        assert self.may_return.acquire(timeout=scaled(30))


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def sink(slow: Slow) -> Iterator[WorkerSink]:
    sink = WorkerSink("slow", slow, most_bytes=10_000)
    yield sink
    slow.may_return.release(1_000)
    sink.stop(scaled(5))


def put(sink: WorkerSink, memory: int = 0) -> None:
    ticket = sink.begin()
    sink.put("event", ticket, memory)
    ticket.give_back()


def test_large_events_wait_for_a_callback_up_to_a_number_of_bytes(
    sink: WorkerSink, slow: Slow
) -> None:
    put(sink, 6_000)
    assert sink.room() > 0
    put(sink, 6_000)
    assert sink.room() == 0
    slow.may_return.release()
    wait_until(lambda: sink.room() > 0)


def test_one_event_that_is_larger_than_the_bound_is_taken_when_it_is_alone(
    sink: WorkerSink, slow: Slow
) -> None:
    assert sink.room() > 0
    put(sink, 50_000)
    assert sink.room() == 0
    slow.may_return.release()
    wait_until(lambda: sink.room() > 0)


def test_small_events_wait_up_to_a_number(sink: WorkerSink) -> None:
    before = sink.room()
    for _ in range(before):
        assert sink.room() > 0
        put(sink)
    assert sink.room() == 0


def test_after_a_stop_that_gave_up_on_some_there_is_room_for_all_again(
    sink: WorkerSink, slow: Slow
) -> None:
    before = sink.room()
    put(sink, 6_000)
    wait_until(lambda: slow.heard)
    for _ in range(3):
        put(sink, 6_000)
    sink.stop(0.0)
    slow.may_return.release()
    wait_until(lambda: sink.room() == before)


@pytest.mark.parametrize("kind", [DirectSink, WorkerSink])
def test_a_callback_that_raises_each_time_is_logged_once_in_a_while(
    kind: type[DirectSink | WorkerSink], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(event: int) -> None:
        heard.append(event)
        raise ValueError if event else TypeError

    heard: list[int] = []
    sink = kind("raising", refuse)
    for number in range(100):
        sink.put(number, None)
    wait_until(lambda: len(heard) == 100)
    if isinstance(sink, WorkerSink):
        sink.stop(scaled(5))
    said = "raising: the callback for received messages raised"
    assert [record.getMessage() for record in caplog.records] == [said, said]
    assert all(record.exc_info for record in caplog.records)
