"""A chart started and stopped in every order, from every thread, either runs or leaves nothing."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import (
    AccessRefused,
    LocalBroker,
    NetworkedActiveObject,
    NetworkStopped,
    SessionState,
    json_deserializer,
    json_serializer,
)

from ..helpers import scaled, wait_until
from .charts import arguments_for, listening

KEY = Fernet.generate_key()


def nothing(_chart: Any) -> None:
    """The action of a handler that does nothing."""


class Hooked(NetworkedActiveObject):
    """A chart with a timer, which counts NEWS; tests choose what its handlers do."""

    on_entry: Callable[[Any], None] = staticmethod(nothing)
    on_first: Callable[[Any], None] = staticmethod(nothing)

    def __init__(self, name: str, broker: LocalBroker, **extras: Any) -> None:
        super().__init__(name, **{**arguments_for(broker, key=KEY), **extras})
        self.news = 0


@spy_on
def hooked(chart: Any, e: Event) -> Any:
    status = return_status.HANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        chart.post_fifo(Event(signal=signals.TICK), times=0, period=0.01, deferred=True)
        chart.post_fifo(Event(signal=signals.FIRST))
        chart.on_entry(chart)
    elif e.signal == signals.FIRST:
        chart.on_first(chart)
    elif e.signal == signals.NEWS:
        chart.news += 1
    elif e.signal != signals.TICK:
        chart.temp.fun = chart.top
        status = return_status.SUPER
    return status


def from_another_thread(act: Callable[[], object]) -> None:
    """Act there, and wait for the end."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def wait_for_end(chart: NetworkedActiveObject) -> None:
    """Wait until nothing of a chart runs; the leak check counts the threads of its timers."""
    wait_until(lambda: not chart.nets.is_running)
    chart.thread.join(scaled(25))
    assert not chart.thread.is_alive()
    assert not chart.posted_events_queue


def waiting_for(chart: NetworkedActiveObject) -> list[int]:
    """The signals in its FIFO."""
    return [event.signal for event in tuple(chart.queue.deque)]


def check_that_it_runs(chart: Hooked) -> None:
    chart.post_fifo(Event(signal=signals.NEWS))
    wait_until(lambda: chart.news)
    assert chart.nets.is_running


def test_a_chart_that_is_stopped_while_it_starts_does_not_run(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {**arguments_for(broker_a, key=KEY), "rabbit_host": "127.0.0.88", "rabbit_port": 1}
    chart = NetworkedActiveObject("hasty", **nowhere)

    def stop_soon() -> None:
        wait_until(lambda: chart.nets.stats().mesh.brokers)
        chart.stop()

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    with pytest.raises(NetworkStopped, match="stopped while it started"):
        chart.start_at(listening)
    stopper.join()
    assert chart.thread is None
    assert "goes on trying to connect" not in caplog.text


@pytest.mark.parametrize("is_second_start", [False, True], ids=["first start", "second start"])
def test_a_chart_that_is_stopped_before_it_has_a_thread_handles_nothing(
    is_second_start: bool, broker_a: LocalBroker
) -> None:
    chart = Hooked("hasty", broker_a)
    if is_second_start:
        chart.start_at(hooked)
        chart.stop()
    chart.post_fifo(Event(signal=signals.NEWS))
    chart.on_entry = lambda chart: from_another_thread(chart.stop)
    chart.start_at(hooked)
    wait_for_end(chart)
    assert not chart.news


def test_a_stop_ends_a_thread_that_its_starter_has_not_noted_yet(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the moment when the thread takes the next event and its handling."""
    chart = Hooked("hasty", broker_a)
    is_asked = threading.Event()
    stopper = threading.Thread(target=chart.stop)
    start, next_rtc = threading.Thread.start, chart.next_rtc

    def start_and_linger(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == chart.name:
            assert is_asked.wait(scaled(25))

    def handle_late() -> bool:
        if not is_asked.is_set():
            stopper.start()
            wait_until(lambda: signals.STOP_ACTIVE_OBJECT_SIGNAL in waiting_for(chart))
            is_asked.set()
        return next_rtc()

    monkeypatch.setattr(threading.Thread, "start", start_and_linger)
    monkeypatch.setattr(chart, "next_rtc", handle_late)
    chart.start_at(hooked)
    stopper.join()
    wait_for_end(chart)


def test_a_stop_that_takes_its_time_leaves_no_timer(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = Hooked("hasty", broker_a)
    stop_networks, has_started = chart.nets.stop, threading.Event()
    stopper = threading.Thread(target=chart.stop)

    def stop_late() -> None:
        if threading.current_thread() is stopper:
            assert has_started.wait(scaled(25))
        stop_networks()

    def begin_to_stop(_chart: Any) -> None:
        stopper.start()
        wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.STOPPED)

    monkeypatch.setattr(chart.nets, "stop", stop_late)
    chart.on_entry = begin_to_stop
    chart.start_at(hooked)
    has_started.set()
    stopper.join()
    wait_for_end(chart)


def test_a_stop_in_a_start_before_its_networks_are_up_takes_effect(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = Hooked("hasty", broker_a)
    start_networks = chart.nets.start

    def start_late() -> None:
        from_another_thread(chart.stop)
        start_networks()

    monkeypatch.setattr(chart.nets, "start", start_late)
    with pytest.raises(NetworkStopped, match="stopped while it started"):
        chart.start_at(hooked)
    assert chart.thread is None
    assert not chart.nets.is_running


def test_a_chart_may_stop_itself_as_soon_as_it_runs(broker_a: LocalBroker) -> None:
    for _ in range(3):
        chart = Hooked("brief", broker_a)
        chart.on_first = lambda chart: chart.stop()
        chart.start_at(hooked)  # does not raise, however soon the handler runs
        wait_for_end(chart)


def test_a_chart_that_has_stopped_itself_is_started_again(broker_a: LocalBroker) -> None:
    def stop_and_linger(chart: Hooked) -> None:
        chart.stop()
        threading.Event().wait(0.05)  # a handler may have more to do

    chart = Hooked("restless", broker_a)
    chart.start_at(hooked)
    for _ in range(5):
        chart.news = 0
        check_that_it_runs(chart)
        chart.on_first = stop_and_linger
        chart.post_fifo(Event(signal=signals.FIRST))
        wait_until(lambda: not chart.nets.is_running)
        del chart.on_first
        chart.start_at(hooked)
    check_that_it_runs(chart)
    chart.stop()
    wait_for_end(chart)


def test_a_first_state_that_raises_leaves_nothing(broker_a: LocalBroker) -> None:
    chart = Hooked("clumsy", broker_a)

    def stumble(_chart: Any) -> None:
        raise ZeroDivisionError

    chart.on_entry = stumble
    with pytest.raises(ZeroDivisionError):
        chart.start_at(hooked)
    assert chart.thread is None
    assert not chart.nets.is_running
    assert not chart.posted_events_queue


def test_simultaneous_starts_make_one_thread(broker_a: LocalBroker) -> None:
    chart = Hooked("twice", broker_a)
    others: list[threading.Thread] = []

    def start_too(_chart: Any) -> None:
        if not others:
            others.append(threading.Thread(target=chart.start_at, args=(hooked,)))
            others[0].start()
            others[0].join(0.05)

    chart.on_entry = start_too
    chart.start_at(hooked)
    others[0].join()
    assert [thread.name for thread in threading.enumerate()].count("twice") == 1
    check_that_it_runs(chart)
    chart.stop()
    wait_for_end(chart)


def test_two_starts_with_a_wrong_password_both_raise(broker_a: LocalBroker) -> None:
    chart = Hooked("stranger", broker_a, rabbit_password="wrong")
    errors: list[Exception] = []

    def start() -> None:
        try:
            chart.start_at(hooked)
        except AccessRefused as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 2
    assert chart.thread is None
    assert not chart.nets.is_running


def test_a_start_that_is_interrupted_leaves_nothing(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = Hooked("brief", broker_a)

    def interrupt(_timeout: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chart.nets.node.membership, "wait_for_first_round", interrupt)
    with pytest.raises(KeyboardInterrupt):
        chart.start_at(hooked)
    assert chart.thread is None
    assert not chart.nets.is_running


def test_charts_that_are_stopped_at_any_moment_run_or_have_ended(broker_a: LocalBroker) -> None:
    chance = random.Random(5)
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)  # so that threads take turns at any line
    try:
        for number in range(30):
            chart = Hooked(f"hasty {number}", broker_a)
            delay_s = chance.uniform(0, 0.002)

            def stop_later(chart: Hooked, delay_s: float = delay_s) -> None:
                threading.Timer(delay_s, chart.stop).start()

            chart.on_entry = stop_later
            chart.start_at(hooked)
            wait_for_end(chart)
    finally:
        sys.setswitchinterval(before)


def test_networks_that_begin_to_stop_while_they_start_have_not_started(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = NetworkedActiveObject("hasty", **arguments_for(broker_a, key=KEY))
    monkeypatch.setattr(
        chart.nets.node.membership,
        "wait_for_first_round",
        lambda _timeout: chart.nets.stop_receiving(),
    )
    with pytest.raises(NetworkStopped, match="stopped while it started"):
        chart.start_at(listening)
    assert not chart.nets.is_running
    assert chart.thread is None
    assert not caplog.records


@pytest.mark.parametrize("also_transmits", [False, True])
def test_the_handler_of_a_signal_may_stop_a_chart_or_transmit_in_the_middle_of_a_transmit(
    broker_a: LocalBroker, also_transmits: bool
) -> None:
    """A serializer is called where a handler would be: in the thread that transmits, amid it."""
    handlers = list[Callable[[], object]]()

    def interrupted(value: Any) -> bytes:
        if handlers and value == ("NEWS", None):
            handlers.pop()()
        return json_serializer(value)

    pair: dict[str, Any] = {"serializer": interrupted, "deserializer": json_deserializer}
    listener = Hooked("listener", broker_a, **pair)
    chart = Hooked("interrupted", broker_a, **pair)
    news = Event(signal=signals.NEWS)
    with listener, chart:
        listener.start_at(hooked)
        chart.start_at(hooked)
        if also_transmits:
            handlers.append(lambda: chart.transmit(news))
            chart.transmit(news)
            wait_until(lambda: listener.news == 2)
            assert listener.nets.stats().mesh.gaps == 0
            assert listener.nets.stats().mesh.duplicates == 0
        handlers.append(chart.stop)
        with pytest.raises(NetworkStopped, match="was stopped"):
            chart.transmit(news)
        assert not chart.nets.is_running
