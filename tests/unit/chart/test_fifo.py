"""The FIFO of a networked chart: its order, its limits, and many threads at once."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miros import ActiveObject, Event, return_status, signals, spy_on
from miros.activeobject import LockingDeque

from miros_rabbitmq import MirosApiException
from miros_rabbitmq.chart.fifo import ChartFifo
from miros_rabbitmq.nets.large_event import LargeEvent
from tests.helpers import end_child, scaled, wait_until

STOP = Event(signal=signals.STOP_ACTIVE_OBJECT_SIGNAL)


def fifo(capacity: int = 100) -> ChartFifo:
    return ChartFifo(capacity, "chart")


def event(payload: Any = None, name: str = "FIFO_TEST") -> Event:
    return Event(signal=name, payload=payload)


def payloads(queue: ChartFifo) -> list[Any]:
    return [item.payload for item in queue.deque]


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# Order and number.


def test_what_was_appended_first_is_taken_first() -> None:
    queue = fifo()
    for number in range(5):
        queue.append(event(number))
    assert [queue.popleft().payload for _ in range(5)] == [0, 1, 2, 3, 4]


def test_what_is_no_event_is_refused_where_it_is_posted() -> None:
    queue = fifo()
    for put in (queue.append, queue.appendleft):
        with pytest.raises(MirosApiException, match="take a miros Event, not a str"):
            put("HELLO")
    assert not queue.deque


def test_what_was_put_before_the_others_is_taken_before_them() -> None:
    queue = fifo()
    for number in range(3):
        queue.append(event(number))
    queue.appendleft(event("urgent"))
    assert payloads(queue) == ["urgent", 0, 1, 2]
    assert queue.pop().payload == 2
    assert queue.popleft().payload == "urgent"


def test_it_knows_its_length() -> None:
    queue = fifo()
    assert (len(queue), queue.len()) == (0, 0)
    queue.append(event())
    queue.appendleft(event())
    assert (len(queue), queue.len(), queue.qsize()) == (2, 2, 2)


def test_taking_from_an_empty_fifo_is_an_index_error() -> None:
    for take in (fifo().popleft, fifo().pop):
        with pytest.raises(IndexError):
            take()


def test_it_has_every_attribute_of_the_class_of_miros() -> None:
    assert isinstance(fifo(), LockingDeque)
    for name in vars(LockingDeque):
        if not name.startswith("_") and name != "len":
            assert name in vars(ChartFifo), name


# Bytes.


def test_it_knows_the_memory_of_the_large_events_in_it() -> None:
    queue = fifo()
    queue.append(event())
    assert queue.large_bytes() == 0
    queue.append(LargeEvent(event("a"), 5_000))
    queue.appendleft(LargeEvent(event("b"), 300))
    assert queue.large_bytes() == 5_300
    assert queue.popleft().payload == "b"
    assert queue.large_bytes() == 5_000
    queue.clear()
    assert queue.large_bytes() == 0
    queue.append(LargeEvent(event("c"), 70))
    assert queue.large_bytes() == 70


def test_a_large_event_is_like_the_event_that_it_was() -> None:
    was = event([1, 2], "LARGE_FIFO_TEST")
    large = LargeEvent(was, 5_000)
    assert isinstance(large, Event)
    assert (large.signal, large.signal_name, large.payload) == (was.signal, was.signal_name, [1, 2])
    assert str(large) == str(was)


# Waiting.


def test_each_event_is_one_wake_up_and_stays_until_it_is_taken() -> None:
    queue = fifo()
    queue.append(event(1))
    queue.appendleft(event(0))
    queue.wait(timeout=0)
    queue.get(timeout=0)
    assert payloads(queue) == [0, 1]
    for wait in (queue.wait, queue.get):
        with pytest.raises(Empty):
            wait(block=False)


def test_a_wait_ends_when_an_event_comes() -> None:
    queue = fifo()
    woken = threading.Event()

    def wait() -> None:
        queue.wait(timeout=scaled(10))
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not woken.is_set()
    queue.append(event())
    assert woken.wait(scaled(20))
    thread.join()


def test_after_clear_there_is_no_event_and_no_wake_up() -> None:
    queue = fifo()
    for _ in range(5):
        queue.append(event())
    queue.clear()
    assert (len(queue), queue.qsize()) == (0, 0)
    queue.append(event("later"))
    assert queue.qsize() == 1
    queue.clear()
    queue.clear()


def test_a_new_start_forgets_the_order_to_stop_and_nothing_else() -> None:
    queue = fifo()
    for item in (STOP, event(0), STOP, event(1)):
        queue.append(item)
    queue.wait(timeout=0)
    queue.forget_stops()
    assert payloads(queue) == [0, 1]
    assert queue.qsize() == 2


def test_task_done_counts_nothing() -> None:
    queue = fifo()
    queue.task_done()
    queue.task_done()


# Capacity.


def test_what_exceeds_the_capacity_is_dropped_and_counted() -> None:
    queue = fifo(3)
    for number in range(5):
        queue.append(event(number))
    queue.appendleft(event("urgent"))
    assert payloads(queue) == [0, 1, 2]
    assert queue.dropped == 3
    assert queue.qsize() == 3


def test_a_full_fifo_takes_the_order_to_stop() -> None:
    queue = fifo(1)
    queue.append(event(0))
    queue.append(STOP)
    queue.appendleft(STOP)
    assert [item.signal for item in queue.deque] == [STOP.signal, event().signal, STOP.signal]
    assert queue.dropped == 0
    assert queue.qsize() == 3


def test_there_is_room_again_after_an_event_was_taken() -> None:
    queue = fifo(1)
    queue.append(event(0))
    queue.append(event(1))
    queue.popleft()
    queue.append(event(2))
    assert payloads(queue) == [2]
    assert queue.dropped == 1


def test_an_overflow_is_logged_once_a_burst(caplog: pytest.LogCaptureFixture) -> None:
    queue = fifo(2)
    for _ in range(2):
        for _ in range(10):
            queue.append(event())
        queue.popleft()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "the FIFO of chart is full with 2 events" in errors[0].getMessage()
    assert queue.dropped == 8 + 9


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 5),
    st.lists(st.sampled_from(["append", "appendleft", "popleft", "pop", "wait", "clear"])),
)
def test_it_behaves_as_a_bounded_deque_with_a_counter(capacity: int, calls: list[str]) -> None:
    queue, model, wake_ups, dropped = fifo(capacity), list[int](), 0, 0
    for number, call in enumerate(calls):
        if call.startswith("append"):
            getattr(queue, call)(event(number))
            if len(model) == capacity:
                dropped += 1
            else:
                model.insert(0 if call == "appendleft" else len(model), number)
                wake_ups += 1
        elif call == "clear":
            queue.clear()
            model.clear()
            wake_ups = 0
        elif call == "wait":
            if wake_ups:
                queue.wait(block=False)
                wake_ups -= 1
        elif model:
            assert getattr(queue, call)().payload == model.pop(0 if call == "popleft" else -1)
        assert payloads(queue) == model
        assert (queue.qsize(), queue.dropped) == (wake_ups, dropped)


# Threads.


def post_from_threads(queue: ChartFifo, posters: int, each: int) -> list[threading.Thread]:
    start = threading.Barrier(posters)

    def post(poster: int) -> None:
        start.wait(scaled(20))
        for number in range(each):
            queue.append(event((poster, number)))

    threads = [threading.Thread(target=post, args=(poster,)) for poster in range(posters)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.usefixtures("often_switched")
def test_many_threads_post_while_one_takes_and_nothing_is_lost() -> None:
    queue, posters, each = fifo(100_000), 6, 300
    threads = post_from_threads(queue, posters, each)
    taken: list[tuple[int, int]] = []
    for _ in range(posters * each):
        queue.wait(timeout=scaled(10))
        taken.append(queue.popleft().payload)
    for thread in threads:
        thread.join()
    assert (len(queue), queue.qsize(), queue.dropped) == (0, 0, 0)
    for poster in range(posters):
        assert [number for who, number in taken if who == poster] == list(range(each))


@pytest.mark.usefixtures("often_switched")
def test_many_threads_post_into_a_full_fifo_and_every_dropped_event_is_counted() -> None:
    queue, posters, each = fifo(50), 6, 100
    for thread in post_from_threads(queue, posters, each):
        thread.join()
    assert len(queue) == queue.qsize() == 50
    assert queue.dropped == posters * each - 50


# In a chart.


def listening(chart: Any, e: Event) -> Any:
    if e.signal == signals.FIFO_TEST:
        chart.heard.append(e.payload)
        return return_status.HANDLED
    if e.signal == signals.FIFO_GATE:
        assert e.payload.wait(scaled(10))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@pytest.fixture
def chart() -> Iterator[ActiveObject]:
    chart = ActiveObject("fifo chart")
    chart.queue = chart.locking_deque = ChartFifo(5_000, "fifo chart")
    chart.heard = []
    chart.start_at(spy_on(listening))
    yield chart
    chart.stop()
    assert not chart.thread.is_alive()


def test_a_chart_handles_each_event_once_and_in_its_posters_order(chart: ActiveObject) -> None:
    def post(poster: int) -> None:
        for number in range(200):
            chart.post_fifo(event((poster, number)))

    threads = [threading.Thread(target=post, args=(poster,)) for poster in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(chart.heard) == 600)
    for poster in range(3):
        assert [number for who, number in chart.heard if who == poster] == list(range(200))


def test_a_chart_takes_a_posted_lifo_event_before_those_that_wait(chart: ActiveObject) -> None:
    gate = threading.Event()
    chart.post_fifo(Event(signal="FIFO_GATE", payload=gate))
    wait_until(lambda: len(chart.queue) == 0)
    for number in range(3):
        chart.post_fifo(event(number))
    chart.post_lifo(event("urgent"))
    gate.set()
    wait_until(lambda: len(chart.heard) == 4)
    assert chart.heard == ["urgent", 0, 1, 2]


def test_a_chart_hears_what_is_published_and_posted_with_a_period(chart: ActiveObject) -> None:
    chart.subscribe(event())
    chart.publish(event("published"))
    wait_until(lambda: "published" in chart.heard)
    chart.post_fifo(event("timed"), period=0.001, times=2, deferred=False)
    wait_until(lambda: chart.heard.count("timed") == 2)


def test_a_chart_with_a_full_fifo_can_be_stopped() -> None:
    chart = ActiveObject("full chart")
    chart.queue = chart.locking_deque = ChartFifo(3, "full chart", timeout_s=0.01)
    chart.heard = []
    chart.start_at(spy_on(listening))
    gate = threading.Event()
    chart.post_fifo(Event(signal="FIFO_GATE", payload=gate))
    wait_until(lambda: len(chart.queue) == 0)
    for number in range(10):
        chart.post_fifo(event(number))
    assert chart.queue.dropped == 7
    stopper = threading.Thread(target=chart.stop)
    stopper.start()
    wait_until(lambda: len(chart.queue) == 4)
    gate.set()
    stopper.join(scaled(20))
    assert not stopper.is_alive()
    assert not chart.thread.is_alive()


def test_a_post_from_another_thread_waits_until_a_full_fifo_has_room() -> None:
    chart = ActiveObject("waited for")
    chart.queue = chart.locking_deque = ChartFifo(3, "waited for", timeout_s=scaled(10))
    chart.heard = []
    chart.start_at(spy_on(listening))
    gate = threading.Event()
    chart.post_fifo(Event(signal="FIFO_GATE", payload=gate))
    wait_until(lambda: len(chart.queue) == 0)

    def post() -> None:
        for number in range(100):
            chart.post_fifo(event(number))

    poster = threading.Thread(target=post)
    poster.start()
    wait_until(lambda: len(chart.queue) == 3)
    gate.set()
    poster.join(scaled(10))
    assert not poster.is_alive()
    wait_until(lambda: len(chart.heard) == 100)
    assert chart.heard == list(range(100))
    assert chart.queue.dropped == 0
    chart.stop()


def test_no_post_waits_for_a_chart_that_has_ended() -> None:
    chart = ActiveObject("ended")
    chart.queue = chart.locking_deque = ChartFifo(1, "ended", timeout_s=scaled(60))
    chart.heard = []
    chart.start_at(spy_on(listening))
    chart.stop()
    queue = chart.queue
    queue.forget_stops()
    for number in range(3):
        queue.append(event(number))
    assert queue.dropped == 2


def take_and_linger(queue: ChartFifo, may_end: threading.Event) -> None:
    """Like the thread of a chart that is in a handler."""
    queue.wait()
    may_end.wait(scaled(60))


def test_a_thread_that_must_not_wait_gets_in_at_once_and_is_refused_by_a_full_fifo() -> None:
    impatient, asked = threading.get_ident(), list[int]()

    def must_not_wait() -> bool:
        asked.append(len(queue.deque))
        return threading.get_ident() == impatient

    queue = ChartFifo(2, "asking", timeout_s=scaled(60), must_not_wait=must_not_wait)
    taker = threading.Thread(target=queue.wait)  # as the chart's thread
    taker.start()
    queue.append(event(0))
    taker.join()
    running = threading.Event()
    alive = threading.Thread(target=take_and_linger, args=(queue, running))
    queue.forget_stops()
    alive.start()
    wait_until(lambda: queue.qsize() == 0)
    try:
        queue.append(event(1))
        assert asked == []
        before_s = time.monotonic()
        queue.append(event(2))
        assert time.monotonic() - before_s < scaled(5)
        assert (payloads(queue), queue.dropped, asked) == ([0, 1, 2], 0, [2])
        queue.append(STOP)
        assert (queue.dropped, asked) == (0, [2]), "the order to stop is taken without a question"
        queue.pop()
        queue.pop()
        patient = threading.Thread(target=queue.append, args=(event(3),))
        patient.start()
        wait_until(lambda: len(asked) == 2)
        patient.join(0.05)
        assert patient.is_alive()
        queue.popleft()
        patient.join(scaled(10))
        assert payloads(queue) == [1, 3]
    finally:
        running.set()
        alive.join()


def test_the_handler_of_a_signal_may_stop_the_chart_in_the_middle_of_a_post() -> None:
    taken = list[Event]()

    def stop_as_a_handler_of_a_signal() -> bool:
        """Asked with the lock held, in the thread that posts."""
        queue.append(STOP)
        taker = threading.Thread(target=lambda: taken.append(queue.popleft()))
        taker.start()
        taker.join(scaled(10))
        return True

    queue = ChartFifo(1, "stopped", must_not_wait=stop_as_a_handler_of_a_signal)
    running = threading.Event()
    queue.append(event(0))
    alive = threading.Thread(target=take_and_linger, args=(queue, running))
    alive.start()
    wait_until(lambda: queue.qsize() == 0)
    try:
        queue.append(event(1))
    finally:
        running.set()
        alive.join()
    assert [one.payload for one in taken] == [0], "the chart's thread need not wait for the lock"
    assert queue.deque[0] is STOP
    assert queue.deque[1].payload == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_use_a_fifo_that_a_thread_of_its_parent_was_using() -> None:
    full = ChartFifo(1, "forked", timeout_s=scaled(60))
    full.append(event(0))
    stop = threading.Event()
    owner = threading.Thread(target=take_and_linger, args=(full, stop))
    owner.start()
    wait_until(lambda: full.qsize() == 0)
    asking, may_answer = threading.Event(), threading.Event()

    def hold_the_lock() -> bool:
        asking.set()
        may_answer.wait(scaled(60))
        return True

    held = ChartFifo(1, "held", timeout_s=scaled(60), must_not_wait=hold_the_lock)
    held.append(event(0))
    user = threading.Thread(target=take_and_linger, args=(held, stop))
    user.start()
    wait_until(lambda: held.qsize() == 0)
    poster = threading.Thread(target=held.append, args=(event(1),))
    poster.start()
    assert asking.wait(scaled(10))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for queue in (full, held):
                assert queue.qsize() == len(queue) == 1, "a wake-up for each event"
                queue.wait(timeout=0)
                queue.popleft()
                queue.append(event(2))
                assert payloads(queue) == [2]
            status = 0
        finally:
            end_child(status)
    may_answer.set()
    stop.set()
    for thread in (owner, user, poster):
        thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_who_watches_is_told_when_a_post_begins_to_wait() -> None:
    told: list[bool] = []
    queue = ChartFifo(1, "chart", timeout_s=scaled(10), on_wait=lambda: told.append(True))

    def take() -> None:
        queue.wait()
        wait_until(lambda: told)
        queue.popleft()

    taker = threading.Thread(target=take)
    taker.start()
    queue.append(event(1))
    wait_until(lambda: queue.qsize() == 0)
    queue.append(event(2))
    taker.join()
    assert payloads(queue) == [2]
    assert told == [True]
    assert queue.taken == 1


def test_many_posts_do_not_each_wait_for_a_holder_that_does_not_come_back() -> None:
    """Such as a thread in the handler of a signal: the consumers' thread posts meanwhile."""
    holds, may_go = threading.Event(), threading.Event()

    def hold() -> bool:
        holds.set()
        return may_go.wait(scaled(30))

    queue = ChartFifo(1, "chart", must_not_wait=hold)
    queue.append(event(0))
    queue.wait(block=False)  # from here on, this is the chart's thread
    holder = threading.Thread(target=queue.append, args=(event("last"),))
    holder.start()
    assert holds.wait(scaled(10))
    began_s = time.monotonic()
    for number in range(1, 201):
        queue.append(event(number))
    took_s = time.monotonic() - began_s
    may_go.set()
    holder.join()
    assert payloads(queue) == [*range(201), "last"]
    assert took_s < scaled(8), "each has waited"  # for 0.1 s: 20 s in all
