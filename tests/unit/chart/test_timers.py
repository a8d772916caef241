"""The timers of a chart: those that have ended are forgotten, and the limit is for running ones."""

from __future__ import annotations

import base64
import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from miros import Event, return_status, signals
from miros.activeobject import ActiveObjectOutOfPostedEventResources

from miros_rabbitmq import Limits, NetworkedActiveObject, NetworkedFactory
from miros_rabbitmq.chart.timers import TimedPosts, Timers
from miros_rabbitmq.failures import OnRaise
from tests.helpers import wait_until

KEY = base64.urlsafe_b64encode(bytes(range(32)))
MOST = 500

signals.append("TICK")


def timer(name: str = "TICK", uuid: str = "1") -> Any:
    may_run = threading.Event()
    may_run.set()
    return SimpleNamespace(signal_name=name, uuid=uuid, task_run_event=may_run)


# Alone.


class Posting:
    """What a timer posts to."""

    QUEUE_SIZE = 7

    def __init__(self) -> None:
        self.posted: list[tuple[str, str]] = []

    def post_fifo(self, event: str) -> None:
        self.posted.append(("fifo", event))

    def post_lifo(self, event: str) -> None:
        self.posted.append(("lifo", event))
        raise ValueError(event)


def test_a_post_of_a_timer_that_raises_is_handed_over() -> None:
    raised: list[tuple[str, str]] = []
    chart = Posting()

    def on_raise(method: str) -> OnRaise:
        return lambda error: raised.append((method, str(error)))

    posts = TimedPosts(chart, on_raise)
    posts.post_fifo("A")
    posts.post_lifo("B")
    assert chart.posted == [("fifo", "A"), ("lifo", "B")]
    assert raised == [("post_lifo", "B")]
    assert posts.__class__.QUEUE_SIZE == 7  # type: ignore[attr-defined]
    assert posts.posted is chart.posted


def test_a_timer_that_has_ended_is_forgotten_and_the_others_keep_their_order() -> None:
    timers = Timers(5, "robot")
    noted = [timer(uuid=str(number)) for number in range(4)]
    timers.extend(noted)
    noted[1].task_run_event.clear()
    assert len(timers) == 3
    assert list(timers) == [noted[0], noted[2], noted[3]]


def test_cancelling_stops_those_that_are_wanted() -> None:
    timers = Timers(5, "robot")
    a, b = timer("A"), timer("B")
    timers.extend((a, b))
    timers.cancel(lambda each: each.signal_name == "A")
    assert not a.task_run_event.is_set()
    assert b.task_run_event.is_set()
    assert list(timers) == [b]
    timers.cancel()
    assert not b.task_run_event.is_set()
    assert not timers


def test_it_says_once_that_it_is_full(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers(2, "robot")
    timers.extend((timer(), timer()))
    assert (len(timers), len(timers)) == (2, 2)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "robot has 2 timers running, and no more are allowed" in record.getMessage()
    timers.cancel()
    assert len(timers) == 0
    timers.extend((timer(), timer()))
    assert len(timers) == 2
    assert len(caplog.records) == 2


def test_a_forked_child_has_none() -> None:
    timers = Timers(2, "robot")
    timers.append(timer())
    timers.disown()
    assert len(timers) == 0


# In charts.


def state_of(chart: Any) -> Any:
    """A state that does nothing."""
    if isinstance(chart, NetworkedFactory):
        state = chart.create(state="idle").catch(
            signal=signals.TICK, handler=lambda _chart, _e: return_status.HANDLED
        )
        chart.nest(state.to_method(), parent=None)
        return state.to_method()

    def idle(chart: Any, _: Event) -> Any:
        chart.temp.fun = chart.top
        return return_status.SUPER

    return idle


@pytest.fixture(params=[NetworkedActiveObject, NetworkedFactory])
def chart(request: pytest.FixtureRequest) -> Any:
    return request.param(
        "robot",
        "user",
        "password",
        KEY,
        addresses=["127.0.0.2"],
        rabbit_host="127.0.0.2",
        limits=Limits(fifo_events=3 * MOST),
    )


@pytest.mark.parametrize("post", ["post_fifo", "post_lifo"])
def test_more_than_500_timers_in_the_life_of_a_chart_are_all_posted(chart: Any, post: str) -> None:
    at_once = 100
    for _ in range(MOST // at_once + 1):
        for _ in range(at_once):
            getattr(chart, post)(Event(signal=signals.TICK), period=0.001, times=1)
        wait_until(lambda: not chart.posted_events_queue)
    assert len(chart.queue) == MOST + at_once


def test_500_that_run_at_once_are_the_limit_and_it_is_said(
    chart: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(MOST):
        chart.posted_events_queue.append(timer())
    with pytest.raises(ActiveObjectOutOfPostedEventResources):
        chart.post_fifo(Event(signal=signals.TICK), period=0.01, times=1)
    assert "robot has 500 timers running" in caplog.text
    chart.cancel_events(Event(signal=signals.TICK))
    assert not chart.posted_events_queue
    chart.post_fifo(Event(signal=signals.TICK), period=0.01, times=1)
    wait_until(lambda: len(chart.queue) == 1)


def test_a_periodic_timer_goes_on_until_it_is_cancelled_by_what_the_post_returned(
    chart: Any,
) -> None:
    first = chart.post_fifo(Event(signal=signals.TICK), period=0.005)
    other = chart.post_fifo(Event(signal=signals.TICK), period=0.005)
    wait_until(lambda: len(chart.queue) >= 6)
    assert len(chart.posted_events_queue) == 2
    chart.cancel_event(first)
    (left,) = chart.posted_events_queue
    assert left.uuid == other
    chart.cancel_event(uuid=other)
    assert not chart.posted_events_queue
