"""A chart stops, goes on or starts again when a handler has raised."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from miros_rabbitmq import Failure, NetworkStopped
from miros_rabbitmq.chart.supervisor import Supervisor
from miros_rabbitmq.failures import CONTINUE, RESTART, STOP


class Chart:
    """A chart and its life; each run and start takes the next step of a script."""

    def __init__(self, *script: BaseException | Callable[[], object] | None) -> None:
        self.script = list(script)
        self.did: list[str] = []
        self.must_end = False
        self.rested: list[float] = []
        self.now_s = 0.0
        self.judged: list[BaseException] = []

    def step(self, name: str) -> None:
        self.did.append(name)
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            step()

    def run(self) -> None:
        self.step("run")

    def settle(self) -> None:
        self.did.append("settle")

    def start_again(self) -> None:
        self.step("start")

    def describe(self, error: BaseException) -> Failure:
        return Failure("chart", error, "handler")

    def rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        self.now_s += seconds

    def supervise(self, *actions: str) -> bool:
        left = list(actions)

        def judge(failure: Failure) -> str:
            self.judged.append(failure.error)
            return left.pop(0)

        has_failed = Supervisor(self, self, judge, clock=lambda: self.now_s).run()
        assert not left
        return has_failed


class Hasty(Chart):
    """A chart that is stopped while it rests."""

    def rest(self, seconds: float) -> None:
        self.must_end = True


ERROR = ValueError()


def test_a_chart_that_raises_nothing_runs_once() -> None:
    chart = Chart(None)
    assert not chart.supervise()
    assert chart.did == ["run"]


def test_a_chart_stops() -> None:
    chart = Chart(ERROR)
    assert chart.supervise(STOP)
    assert chart.did == ["run"]


def test_a_chart_goes_on_in_the_state_in_which_it_was() -> None:
    chart = Chart(ERROR, ERROR, None)
    assert not chart.supervise(CONTINUE, CONTINUE)
    assert chart.did == ["run", "settle", "run", "settle", "run"]


def test_a_chart_starts_again() -> None:
    chart = Chart(ERROR, None, None)
    assert not chart.supervise(RESTART)
    assert chart.did == ["run", "start", "run"]
    assert chart.rested == []


def test_a_start_that_raises_is_judged_too() -> None:
    chart = Chart(ERROR, ERROR, ERROR, None)
    assert not chart.supervise(RESTART, RESTART, CONTINUE)
    assert chart.did == ["run", "start", "start", "settle", "run"]


def test_a_chart_that_raises_again_and_again_rests_longer_and_longer() -> None:
    chart = Chart(*[ERROR] * 10)
    assert chart.supervise(*[RESTART] * 9, STOP)
    assert chart.rested == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]


def test_a_chart_that_has_run_for_a_minute_starts_again_at_once() -> None:
    def raise_later() -> None:
        chart.now_s += 60
        raise ERROR

    chart = Chart()
    chart.script = [ERROR, None, ERROR, None, raise_later, None, None]
    assert not chart.supervise(RESTART, RESTART, RESTART)
    assert chart.rested == [0.1]


def test_a_stop_during_the_rest_ends_the_chart() -> None:
    chart = Hasty(ERROR, None, ERROR)
    assert not chart.supervise(RESTART, RESTART)
    assert chart.did == ["run", "start", "run"]


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), GeneratorExit()])
def test_no_error_gets_past(error: BaseException) -> None:
    chart = Chart(error)
    assert chart.supervise(STOP)
    assert chart.judged == [error]


def test_a_handler_that_transmits_while_the_chart_stops_has_not_failed() -> None:
    chart = Chart(NetworkStopped("it was stopped"))
    chart.must_end = True
    assert not chart.supervise()


def test_a_handler_that_transmits_in_a_chart_that_runs_has_failed() -> None:
    chart = Chart(NetworkStopped("another chart was stopped"))
    assert chart.supervise(STOP)
