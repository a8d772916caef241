"""Starts and stops of a chart, in every order that matters."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable

import pytest

from miros_rabbitmq import MirosApiException, process
from miros_rabbitmq.chart.life import LAST_HANDLER_S, ChartLife, Latch

from ...helpers import scaled, wait_until


class Chart:
    """A life, and a thread that ends when it is told to."""

    def __init__(self, patience_s: float = 30.0) -> None:
        self.may_end = threading.Event()
        self.may_run = threading.Event()
        self.woken = 0
        self.life = ChartLife("chart", self.may_run, self.wake, patience_s)

    def wake(self) -> None:
        self.woken += 1

    def run(self, target: Callable[[], object] | None = None) -> None:
        self.may_run.set()
        thread = threading.Thread(target=target or self.may_end.wait)
        thread.start()
        self.life.thread = thread

    def end(self) -> None:
        self.may_end.set()
        if self.life.thread is not None:
            self.life.thread.join()


def began(chart: Chart) -> bool:
    """Start without doing anything; tells whether that was a new life."""
    with chart.life.starting() as is_new:
        return is_new


def test_a_start_is_a_new_life_unless_the_chart_runs() -> None:
    chart = Chart()
    assert began(chart)
    assert not chart.life.has_thread
    chart.run()
    try:
        assert chart.life.has_thread
        assert not began(chart)
    finally:
        chart.end()
    assert began(chart)


def test_a_stop_leaves_its_mark_until_the_next_start() -> None:
    chart = Chart()
    assert began(chart)
    assert not chart.life.must_end
    with chart.life.ending():
        assert chart.life.must_end
    assert chart.life.must_end
    assert began(chart)
    assert not chart.life.must_end


def begun_meanwhile(chart: Chart) -> threading.Thread:
    starter = threading.Thread(target=began, args=(chart,))
    starter.start()
    return starter


def test_a_start_waits_for_every_stop() -> None:
    chart = Chart()
    with chart.life.ending():
        with chart.life.ending():
            starter = begun_meanwhile(chart)
        starter.join(0.05)
        assert starter.is_alive()
        assert chart.life.must_end
    starter.join(scaled(10))
    assert not starter.is_alive()
    assert not chart.life.must_end


def test_a_start_waits_for_every_other_start_but_not_for_itself() -> None:
    chart = Chart()
    with chart.life.starting():
        assert began(chart)
        starter = begun_meanwhile(chart)
        starter.join(0.05)
        assert starter.is_alive()
    starter.join(scaled(10))
    assert not starter.is_alive()


def test_a_stop_does_not_wait_for_a_start() -> None:
    chart = Chart()
    with chart.life.starting():
        with chart.life.ending():
            assert chart.life.must_end
        assert chart.life.must_end
    assert began(chart)


def test_a_start_waits_for_the_thread_that_was_ended() -> None:
    chart = Chart()
    chart.run()
    with chart.life.ending():
        pass
    starter = begun_meanwhile(chart)
    starter.join(0.05)
    assert starter.is_alive()
    assert chart.life.must_end
    chart.end()
    starter.join(scaled(10))
    assert not starter.is_alive()
    assert not chart.life.must_end


def test_a_start_gives_up_if_a_stop_does_not_end() -> None:
    chart = Chart(patience_s=0.05)
    with (
        chart.life.ending(),
        pytest.raises(MirosApiException, match=r"cannot start: for 0.05 s another thread"),
    ):
        began(chart)
    chart.run()
    with chart.life.ending():
        pass
    try:
        with pytest.raises(MirosApiException, match=r"cannot start: for 0.05 s another thread"):
            began(chart)
    finally:
        chart.end()
    assert began(chart)


def test_a_thread_that_ends_cannot_start_its_chart_again() -> None:
    chart = Chart()
    errors: list[Exception] = []

    def stop_and_start() -> None:
        wait_until(lambda: chart.life.thread is threading.current_thread())
        with chart.life.ending():
            pass
        began_s = time.monotonic()
        try:
            began(chart)
        except MirosApiException as error:
            errors.append(error)
        assert time.monotonic() - began_s < scaled(5)

    chart.run(stop_and_start)
    chart.end()
    assert "its own thread cannot start it again" in str(errors[0])
    assert began(chart)


def test_a_forked_child_waits_for_no_stop_of_its_parent() -> None:
    chart = Chart(patience_s=0.05)
    with chart.life.starting(), chart.life.ending():
        chart.life.disown()
        assert began(chart)
    assert began(chart)


# The end of the thread.


def test_a_thread_is_ended_by_an_event_that_wakes_it() -> None:
    chart = Chart()
    chart.run()
    ender = threading.Thread(target=chart.life.end_thread)
    ender.start()
    wait_until(lambda: chart.woken)
    assert not chart.may_run.is_set()
    ender.join(0.05)
    assert ender.is_alive(), "it waits for the thread"
    chart.end()
    ender.join(scaled(10))
    assert not ender.is_alive()
    chart.life.end_thread()
    assert chart.woken == 1, "a thread that has ended is not woken"


def test_a_thread_that_ends_itself_does_not_wait_for_itself() -> None:
    chart = Chart()

    def end_itself() -> None:
        wait_until(lambda: chart.life.thread is threading.current_thread())
        chart.life.end_thread()

    chart.run(end_itself)
    assert chart.life.thread is not None
    chart.life.thread.join(scaled(10))
    assert not chart.life.has_thread


def test_a_chart_is_asked_to_end_without_a_wait_and_then_waited_for_within_the_limit() -> None:
    chart = Chart()
    chart.run()
    try:
        before_s = time.monotonic()
        chart.life.ask_to_end()
        assert time.monotonic() - before_s < scaled(0.5)
        assert chart.life.must_end
        assert not chart.may_run.is_set()
        assert chart.woken == 1
        chart.life.end(time.monotonic() - LAST_HANDLER_S + 0.05)
        assert time.monotonic() - before_s < scaled(0.5)
        chart.life.end(time.monotonic() - 2 * LAST_HANDLER_S)
        assert chart.woken == 1
    finally:
        chart.end()


def members(monkeypatch: pytest.MonkeyPatch) -> set[object]:
    """The objects that are registered for the end of the program from now on."""
    registered: set[object] = set()
    monkeypatch.setattr(process, "end_with_program", lambda one, _stage: registered.add(one))
    monkeypatch.setattr(process, "stay", lambda one, _stage: registered.discard(one))
    return registered


def test_a_chart_ends_with_the_program_from_its_start_to_its_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered = members(monkeypatch)
    chart = Chart()
    assert not registered
    assert began(chart)
    assert registered == {chart.life}
    with chart.life.ending():
        assert registered == {chart.life}, "until the stop is done"
    assert not registered


def test_a_chart_whose_stop_failed_still_ends_with_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered = members(monkeypatch)
    chart = Chart()
    assert began(chart)
    with pytest.raises(ZeroDivisionError), chart.life.ending():
        raise ZeroDivisionError
    assert registered == {chart.life}


def test_a_stop_leaves_a_handler_behind_that_does_not_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chart = Chart(patience_s=0.05)
    chart.run()
    try:
        with chart.life.ending():
            chart.life.end_thread()
        assert chart.life.has_thread
        assert "chart: a handler has not returned within 0.05 s of the stop" in caplog.text
    finally:
        chart.end()
    caplog.clear()
    chart.life.end_thread()
    assert not caplog.text


def test_who_waits_for_the_end_goes_on_after_the_stop() -> None:
    chart = Chart()
    with pytest.raises(MirosApiException, match="was not started"):
        chart.life.wait_for_end(0)
    assert began(chart)
    chart.run()
    ended = [threading.Thread(target=chart.life.wait_for_end, args=(None,)) for _ in range(5)]
    for thread in ended:
        thread.start()
    assert not chart.life.wait_for_end(0)
    with chart.life.ending():
        chart.end()
        assert not chart.life.wait_for_end(0), "its networks are not closed yet"
    assert chart.life.wait_for_end(None)
    for thread in ended:
        thread.join(scaled(20))
        assert not thread.is_alive()
    assert chart.life.wait_for_end(0), "again"
    assert began(chart)
    assert not chart.life.wait_for_end(0), "a new life"


def test_a_stop_in_a_handler_is_the_end_when_the_handler_has_returned() -> None:
    chart = Chart()
    assert began(chart)
    waited: list[bool] = []
    raised: list[BaseException] = []

    def handler() -> None:
        wait_until(lambda: chart.life.thread is threading.current_thread())
        with chart.life.ending():
            pass
        waited.append(chart.life._end is not None and chart.life._end.wait(0))
        try:
            chart.life.wait_for_end(None)
        except MirosApiException as error:
            raised.append(error)
        chart.life.note_end_of_thread()

    chart.run(handler)
    assert chart.life.wait_for_end(scaled(20))
    assert waited == [False]
    assert "in its own thread" in str(raised[0])


def test_a_rest_ends_with_a_stop() -> None:
    chart = Chart()
    assert began(chart)
    resting = threading.Thread(target=chart.life.rest, args=(3600.0,))
    resting.start()
    wait_until(lambda: chart.life.is_resting)
    with chart.life.ending():
        resting.join(scaled(20))
    assert not resting.is_alive()
    assert not chart.life.is_resting


def test_a_latch_lets_everybody_through_even_in_the_handler_of_a_signal() -> None:
    latch = Latch()
    assert not latch.wait(0)
    signal.signal(signal.SIGALRM, lambda *_: latch.open())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert latch.wait(scaled(10))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert all(latch.wait(None) for _ in range(3))


@pytest.mark.parametrize("seconds", [1e20, math.inf])
def test_a_wait_may_last_for_ever(seconds: float) -> None:
    latch = Latch()
    threading.Timer(0.05, latch.open).start()
    assert latch.wait(seconds)
