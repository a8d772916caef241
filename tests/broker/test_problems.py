"""A chart is told of its problems of delivery."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    DeliveryProblem,
    DropReason,
    Limits,
    LocalBroker,
    ProblemKind,
)

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture
def fragile(broker_a: LocalBroker) -> Iterator[LocalBroker]:
    """A broker that a test may kill."""
    with LocalBroker("127.0.0.6", password=broker_a.password) as broker:
        yield broker


def of_kind(told: list[DeliveryProblem], kind: ProblemKind) -> list[DeliveryProblem]:
    return [problem for problem in told if problem.kind is kind]


def test_a_broker_that_goes_away_is_told_with_the_reason_and_its_return_too(
    broker_a: LocalBroker, fragile: LocalBroker
) -> None:
    told: list[DeliveryProblem] = []
    chart, _ = make_active_object(
        "chart", **arguments_for(broker_a, fragile, key=KEY, on_delivery_problem=told.append)
    )
    with running(chart, peers=1):
        fragile.kill()
        (begin,) = wait_until(lambda: of_kind(told, ProblemKind.AWAY))
        assert (begin.subject, begin.is_over) == (str(fragile.address), False)
        assert f"the connection to {fragile.address} broke" in begin.text
        fragile.restart(scaled(60))
        wait_until(lambda: len(of_kind(told, ProblemKind.AWAY)) == 2, 20)
        assert of_kind(told, ProblemKind.AWAY)[1].is_over


def test_drops_of_a_backlog_and_of_the_stop_are_told_with_their_number(
    broker_a: LocalBroker, fragile: LocalBroker
) -> None:
    told: list[DeliveryProblem] = []
    threads: set[str] = set()

    def note(problem: DeliveryProblem) -> None:
        told.append(problem)
        threads.add(threading.current_thread().name)

    limits = Limits(backlog_events=20, absent_after_s=0.2, stop_timeout_s=1.0)
    chart, _ = make_active_object(
        "chart",
        **arguments_for(broker_a, fragile, key=KEY, limits=limits, on_delivery_problem=note),
    )
    with running(chart, peers=1):
        sender = chart.nets.node.mesh.senders[fragile.address]
        fragile.kill()
        wait_until(lambda: sender.is_absent)
        for number in range(50):
            chart.transmit(Event(signal="NUMBER", payload=number))
        first = wait_until(lambda: of_kind(told, ProblemKind.DROPPED))[0]
        assert first.subject == str(fragile.address)
        assert first.network == "miros.mesh"
        assert DropReason.BACKLOG.value in first.text
    stats = chart.nets.stats().mesh
    assert stats.dropped[DropReason.BACKLOG] == 30
    assert stats.dropped[DropReason.STOPPED] == 20
    assert {problem.subject for problem in told} == {str(fragile.address)}
    drops = of_kind(told, ProblemKind.DROPPED)
    assert sum(problem.events for problem in drops) == 50
    assert DropReason.STOPPED.value in drops[-1].text
    assert threads == {"on_delivery_problem of chart"}
    assert not [one for one in threading.enumerate() if one.name.startswith("on_delivery")]


def test_drops_of_a_fifo_are_told_and_the_chart_may_be_started_again(
    broker_a: LocalBroker,
) -> None:
    told: list[DeliveryProblem] = []
    limits = Limits(fifo_events=5, fifo_remote_events=2, fifo_timeout_s=0.01)
    chart, heard = make_active_object(
        "chart", **arguments_for(broker_a, key=KEY, limits=limits, on_delivery_problem=told.append)
    )
    for start in (1, 2):
        told.clear()
        with running(chart):
            handling, go_on = threading.Event(), threading.Event()
            note = heard.note

            def hold(event: Event) -> None:
                note(event)  # noqa: B023  # called before the next start
                handling.set()  # noqa: B023
                assert go_on.wait(scaled(25))  # noqa: B023

            heard.note = hold  # type: ignore[method-assign]
            chart.post_fifo(Event(signal="HOLD"))
            assert handling.wait(scaled(25))
            for number in range(8):
                chart.post_fifo(Event(signal="NUMBER", payload=number))
            wait_until(lambda: told)
            go_on.set()
            heard.note = note  # type: ignore[method-assign]
        assert sum(problem.events for problem in told) == 3, start
        assert {(problem.kind, problem.subject) for problem in told} == {
            (ProblemKind.DROPPED, "chart")
        }
        assert "the FIFO of chart is full with 5 events" in told[0].text
