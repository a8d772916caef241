"""Dropped events are reported at once, and then together."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp import drops
from miros_rabbitmq.amqp.drops import DropReports
from miros_rabbitmq.delivery.outbox import DropReason
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind


class Clock:
    """Stands in for the module `time`."""

    now_s = 5.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(drops, "time", clock)
    return clock


def test_the_first_is_reported_at_once_and_the_others_once_a_second(clock: Clock) -> None:
    told: list[DeliveryProblem] = []
    reports = DropReports("the sender at host:1", "host:1", "miros.mesh", told.append)
    for _ in range(100):
        reports.note(DropReason.BACKLOG, 2)
    assert told == [
        DeliveryProblem(
            ProblemKind.DROPPED,
            "host:1",
            f"the sender at host:1: events are dropped: {DropReason.BACKLOG.value}",
            network="miros.mesh",
            events=2,
        )
    ]
    clock.now_s += 1.0
    reports.note(DropReason.BACKLOG, 2)
    assert [problem.events for problem in told] == [2, 200]


def test_what_is_left_is_told_when_asked_and_only_once(clock: Clock) -> None:
    told: list[DeliveryProblem] = []
    reports = DropReports("who", "host:1", "miros.mesh", told.append)
    reports.note(DropReason.BACKLOG, 1)
    reports.note(DropReason.BACKLOG, 1)
    reports.note(DropReason.REFUSED, 3)
    reports.tell()
    reports.tell()
    assert [(problem.kind, problem.events) for problem in told] == [
        (ProblemKind.DROPPED, 1),
        (ProblemKind.DROPPED, 1),
        (ProblemKind.REFUSED, 3),
    ]
