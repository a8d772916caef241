"""The events that a chart defers: in order, up to limits, and never dropped without a word."""

from __future__ import annotations

import base64
import copy
import logging
import tracemalloc
from collections import deque
from typing import Any

import pytest
from miros import ActiveObject, Event, Factory, return_status, signals, spy_on

from miros_rabbitmq import DropReason, Limits, NetworkedActiveObject, NetworkedFactory
from miros_rabbitmq.chart.deferred import DeferredEvents
from miros_rabbitmq.nets.large_event import LargeEvent
from miros_rabbitmq.nets.registry import event_of
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from tests.helpers import wait_until

KEY = base64.urlsafe_b64encode(bytes(range(32)))

for name in ("DEFER", "RECALL_ALL", "RECALL_ONE"):
    signals.append(name)


def event(payload: Any = None) -> Event:
    return Event(signal="DEFERRED_TEST", payload=payload)


def payloads(queue: deque[Any]) -> list[Any]:
    return [one.payload for one in queue]


# The queue.


def test_it_keeps_up_to_a_number_and_then_drops_the_oldest_counts_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: list[DeliveryProblem] = []
    queue = DeferredEvents(5, 1_000, "robot", problems.append)
    for number in range(8):
        queue.append(event(number))
    assert payloads(queue) == [3, 4, 5, 6, 7]
    assert queue.dropped == 3
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "robot has deferred 5 events, and no more are kept" in record.getMessage()
    assert [(one.kind, one.subject, one.events) for one in problems] == [
        (ProblemKind.DROPPED, "robot", 1)
    ] * 3


def test_it_speaks_of_a_further_burst_only_when_it_was_half_empty_in_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = DeferredEvents(4, 1_000, "robot")
    for _ in range(20):
        queue.append(event())
        queue.append(event())
        if len(queue) == 4:
            queue.popleft()
    assert len(caplog.records) == 1
    queue.clear()
    for _ in range(6):
        queue.append(event())
    assert len(caplog.records) == 2


def test_large_events_are_bounded_in_bytes() -> None:
    queue = DeferredEvents(100, 1_000, "robot")
    for number in range(5):
        queue.append(LargeEvent(event(number), 400))
        queue.append(event("small"))
    assert payloads(queue) == ["small", 3, "small", 4, "small"]
    assert queue.dropped == 5
    while queue:
        queue.popleft()
    for number in range(10):
        queue.append(LargeEvent(event(number), 900))
        assert queue.popleft().payload == number
    assert queue.dropped == 5, "what was taken out no longer counts"


def test_small_events_from_the_network_are_bounded_in_bytes_too() -> None:
    """1 KB of empty mappings takes 70 KB: 5,000 such events took 350 MB."""
    queue = DeferredEvents(5_000, 1_000_000, "robot")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(300):
            queue.append(event_of("DEFERRED_TEST", [{} for _ in range(980)]))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 500_000 < grown < 2_000_000
    assert queue.dropped + len(queue) == 300
    ours = DeferredEvents(5_000, 1_000_000, "robot")
    for _ in range(100):
        ours.append(event([{} for _ in range(980)]))
    assert not ours.dropped, "what the chart itself defers is bounded by number"


def test_one_event_that_is_larger_than_the_bound_is_kept() -> None:
    queue = DeferredEvents(100, 1_000, "robot")
    queue.append(event("small"))
    queue.append(LargeEvent(event("large"), 5_000))
    assert payloads(queue) == ["large"]


def test_it_can_be_copied() -> None:
    queue = DeferredEvents(100, 1_000, "robot")
    queue.append(event(1))
    for copied in (queue.copy(), copy.copy(queue)):
        assert payloads(copied) == [1]


# In charts: the same as in those of miros, only longer.


@spy_on
def deferring(chart: Any, e: Event) -> Any:
    """Defer, and recall what was deferred."""
    if e.signal == signals.DEFER:
        chart.handled.append(e.payload)
        if chart.is_deferring:
            chart.defer(e)
        return return_status.HANDLED
    if e.signal == signals.RECALL_ALL:
        chart.is_deferring = False
        chart.recalled = 0
        while chart.recall() is not None:
            chart.recalled += 1
        return return_status.HANDLED
    if e.signal == signals.RECALL_ONE:
        chart.is_deferring = False
        chart.recalled = int(chart.recall() is not None)
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def state_of(chart: Any) -> Any:
    """The state function, or the state of a factory with the same behaviour."""
    if not isinstance(chart, Factory):
        return deferring
    state = chart.create(state="deferring")
    for name in ("DEFER", "RECALL_ALL", "RECALL_ONE"):
        state = state.catch(signal=signals[name], handler=lambda chart, e: deferring(chart, e))
    chart.nest(state.to_method(), parent=None)
    return state.to_method()


def networked(cls: Any, **limits: int) -> Any:
    network = {"addresses": ["127.0.0.2"], "rabbit_host": "127.0.0.2"}
    return cls("robot", "user", "password", KEY, limits=Limits(**limits), **network)


def run(chart: Any, *events: Event) -> Any:
    """Have a chart handle events without a network and without a thread."""
    chart.handled, chart.is_deferring, chart.recalled = [], True, None
    # The event processor alone, below what starts threads.
    super(ActiveObject, chart).start_at(state_of(chart))
    for one in events:
        chart.post_fifo(one)
        while len(chart.queue):
            chart.next_rtc()
    return chart


def deferred(count: int) -> list[Event]:
    return [Event(signal="DEFER", payload=number) for number in range(count)]


KINDS = [(ActiveObject, NetworkedActiveObject), (Factory, NetworkedFactory)]


@pytest.mark.parametrize(("plain", "cls"), KINDS)
@pytest.mark.parametrize("recall", ["RECALL_ALL", "RECALL_ONE"])
def test_defer_and_recall_are_those_of_miros(plain: Any, cls: Any, recall: str) -> None:
    events = [*deferred(5), Event(signal=recall)]
    ours, theirs = run(networked(cls), *events), run(plain(name="robot"), *events)
    assert ours.handled == theirs.handled
    assert ours.recalled == theirs.recalled
    assert payloads(ours.defer_queue) == payloads(theirs.defer_queue)
    assert ours.spy_full() == theirs.spy_full()
    assert any("POST_DEFERRED:DEFER" in line for line in ours.spy_full())
    assert any("RECALL:DEFER" in line for line in ours.spy_full())


@pytest.mark.parametrize("cls", [cls for _, cls in KINDS])
def test_three_thousand_deferred_events_are_all_recalled_in_order(cls: Any) -> None:
    chart = run(networked(cls), *deferred(3_000), Event(signal="RECALL_ALL"))
    assert chart.recalled == 3_000
    assert chart.handled == [*range(3_000), *range(3_000)]
    assert chart.nets.stats().mesh.dropped[DropReason.DEFERRED] == 0


def test_what_goes_beyond_the_limit_is_counted_in_stats(caplog: pytest.LogCaptureFixture) -> None:
    chart = run(
        networked(NetworkedActiveObject, deferred_events=100),
        *deferred(130),
        Event(signal="RECALL_ALL"),
    )
    assert chart.recalled == 100
    assert chart.handled[130:] == list(range(30, 130))
    assert chart.nets.stats().mesh.dropped[DropReason.DEFERRED] == 30
    assert (
        len([record for record in caplog.records if "has deferred" in record.msg % record.args])
        == 1
    )


def test_nobody_can_put_another_queue_in_its_place() -> None:
    chart = networked(NetworkedActiveObject)
    chart.defer_queue = deque(maxlen=500)
    with pytest.raises(Exception, match="defer_queue"):
        chart.start_at(deferring)
    wait_until(lambda: not chart.nets.is_running)
