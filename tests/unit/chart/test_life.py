"""The starts and stops of a chart, in the orders that matter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from miros_rabbitmq import MirosApiException
from miros_rabbitmq.chart.life import ChartLife

from ...helpers import scaled, wait_until


class Chart:
    """A life, and a thread that ends when it is told to."""

    def __init__(self, patience_s: float = 30.0) -> None:
        self.thread: threading.Thread | None = None
        self.may_end = threading.Event()
        self.life = ChartLife("chart", lambda: self.thread, patience_s)

    def run(self, target: Callable[[], object] | None = None) -> None:
        self.thread = threading.Thread(target=target or self.may_end.wait)
        self.thread.start()

    def end(self) -> None:
        self.may_end.set()
        if self.thread is not None:
            self.thread.join()


def began(chart: Chart) -> bool:
    """A start that does nothing; whether it was a new life."""
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


def test_a_start_waits_for_every_other_but_itself() -> None:
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


def test_a_start_gives_up_where_a_stop_does_not_end() -> None:
    chart = Chart(patience_s=0.05)
    with (
        chart.life.ending(),
        pytest.raises(MirosApiException, match=r"takes longer than 0.05 s"),
    ):
        began(chart)
    chart.run()
    with chart.life.ending():
        pass
    try:
        with pytest.raises(MirosApiException, match=r"takes longer than 0.05 s"):
            began(chart)
    finally:
        chart.end()
    assert began(chart)


def test_a_thread_that_ends_cannot_start_its_chart_again() -> None:
    chart = Chart()
    errors: list[Exception] = []

    def stop_and_start() -> None:
        wait_until(lambda: chart.thread is threading.current_thread())
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
        chart.life._disown()
        assert began(chart)
    assert began(chart)
