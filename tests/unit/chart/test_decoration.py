"""Which state functions miros can show: those with ``spy_on``, however they are wrapped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from miros import Factory, HsmWithQueues, spy_on

from miros_rabbitmq.chart.decoration import Decoration, is_decorated


def bare(chart: Any, e: Any) -> Any:
    """A state function without a decorator."""


def other_bare(chart: Any, e: Any) -> Any:
    """Another."""


@spy_on
def spied(chart: Any, e: Any) -> Any:
    """One with it."""


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def chart_in(state: Any, *, instrumented: bool = True) -> Any:
    return SimpleNamespace(name="fan", state=SimpleNamespace(fun=state), instrumented=instrumented)


def test_states_with_spy_on_are_told_from_others() -> None:
    factory = Factory("f")
    made = factory.create(state="made").to_method()
    for state in (spied, wrapped(spied), made, HsmWithQueues().top, functools.partial(bare)):
        assert is_decorated(state), state
    for state in (bare, wrapped(bare)):
        assert not is_decorated(state), state


def test_a_state_without_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    decoration = Decoration()
    for state in (spied, spied, bare, bare, spied, other_bare):
        decoration.look(chart_in(state))
    assert [record.getMessage() for record in caplog.records] == [
        "fan: a snoop is enabled, but has nothing to show of this chart: the state function bare "
        "is not decorated: put @spy_on of miros above every state function"
    ]


def test_instrumentation_that_is_off_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    decoration = Decoration()
    for _ in range(2):
        decoration.look(chart_in(spied, instrumented=False))
    assert len(caplog.records) == 1
    assert "instrumented is False" in caplog.text
    assert "put @spy_on of miros above every state function" in caplog.text
