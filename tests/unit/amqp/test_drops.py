"""Dropped events are reported at once, and then together."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp import drops
from miros_rabbitmq.amqp.drops import Drops
from miros_rabbitmq.delivery.outbox import DropReason
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.wire.sealer import Heading, Record

from ...helpers import scaled


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


def dropping(told: list[DeliveryProblem], who: str = "who", *, is_expected: bool = False) -> Drops:
    return Drops(who, "host:1", "miros.mesh", told.append, is_expected=is_expected)


def test_the_first_is_reported_at_once_and_the_others_once_a_second(clock: Clock) -> None:
    told: list[DeliveryProblem] = []
    reports = dropping(told, "the sender at host:1")
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
    reports = dropping(told)
    reports.note(DropReason.BACKLOG, 1)
    reports.note(DropReason.BACKLOG, 1)
    reports.note_refused(3, "refused")
    reports.report_rest()
    reports.report_rest()
    assert [(problem.kind, problem.events) for problem in told] == [
        (ProblemKind.DROPPED, 1),
        (ProblemKind.REFUSED, 3),
        (ProblemKind.DROPPED, 1),
    ]
    assert (reports.total, reports.refused) == (5, 3)


def test_a_burst_is_said_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    drops = dropping([])
    for _ in range(2):
        drops.note(DropReason.BACKLOG, 1)
        drops.note(DropReason.BACKLOG, 2)
        drops.end_burst()
        drops.end_burst()
    drops.note(DropReason.BACKLOG, 4, is_said=True)
    drops.end_burst()
    drops.note(DropReason.BACKLOG, 5)
    drops.end_burst(is_said=True)
    drops.end_burst()
    assert write_all(scaled(20))
    begin = f"who: from now on events are dropped: {DropReason.BACKLOG.value}"
    end = "who: 3 events were dropped meanwhile"
    assert caplog.messages == [begin, end, begin, end, begin]


def test_events_that_a_broker_refuses_are_said_once_in_a_while(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[DeliveryProblem] = []
    drops = dropping(told)
    record = Record(Heading("a.key", b"12345"), b"67890")
    for _ in range(3):
        drops.note_given_up([record, record], "406, 'too large'")
    clock.now_s += 60.0
    drops.note_given_up([record], "406, 'too large'")
    drops.note_given_up([], "nothing")
    assert write_all(scaled(20))
    text = (
        "who: gave up an event of 10 bytes with the routing key 'a.key', because the broker "
        "refuses it (406, 'too large')"
    )
    assert caplog.messages == [text, f"{text} (and 4 since the last such line)"]
    assert [(one.kind, one.events) for one in told] == 3 * [(ProblemKind.REFUSED, 2)] + [
        (ProblemKind.REFUSED, 1)
    ]


def test_traffic_that_may_be_lost_is_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    told: list[DeliveryProblem] = []
    drops = dropping(told, is_expected=True)
    drops.note(DropReason.CONNECTION, 7)
    drops.note_refused(2, "refused")
    drops.end_burst()
    assert write_all(scaled(20))
    assert (drops.total, told, caplog.messages) == (9, [], [])
