"""What is said of a broker that does not keep up: few lines in the log, and each begin and end."""

from __future__ import annotations

from typing import Any

import pytest

from miros_rabbitmq.delivery.slowness import Change, Condition, Course
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.nets.broker_reports import BrokerReports
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address

from ...helpers import scaled
from .test_broker_watch import IDLE, FakeLink, FakeSender

AT = Address("sick", 2)
FINE, BEHIND, SLOW, STALLED = Condition
LIMITS = Limits()


class Saying:
    """Reports of one broker, whose condition changes as a test says."""

    def __init__(self, *, waits: bool = False) -> None:
        self.problems: list[DeliveryProblem] = []
        self.sender: Any = FakeSender(AT)
        self.now_s = 1_000.0
        self.condition = FINE
        self._course = Course(LIMITS)
        self._confirmed = 0
        self._reports = BrokerReports(LIMITS, waits=waits, report=self.problems.append)

    def give_up(self) -> None:
        self._reports.forget(AT)

    def end(self) -> None:
        self._reports.say_rest({AT: self.sender})

    def become(
        self,
        *conditions: Condition,
        dropped: int = 0,
        after_s: float = 10.0,
        confirms: bool = True,
    ) -> None:
        for after in conditions:
            self.now_s += after_s
            self.sender.dropped += dropped
            self._confirmed += 25 * confirms
            size = 100 * self._confirmed
            look = IDLE._replace(posted=10_000, confirmed=self._confirmed, taken_bytes=size)
            self._course.note(self.now_s, look)
            change = Change(AT, self.condition, after)
            self._reports.tell(change, self.sender, self._course, self.now_s)
            self.condition = after

    @property
    def told(self) -> list[tuple[ProblemKind, bool, int]]:
        return [(each.kind, each.is_over, each.events) for each in self.problems]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert write_all(scaled(20))
    return [text.removeprefix("sender to sick:2: the broker ") for text in caplog.messages]


def test_a_trouble_that_gets_worse_is_said_step_by_step_and_ends_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saying = Saying()
    saying.become(BEHIND, SLOW, BEHIND, FINE, dropped=100)
    begin, worse, end, last = lines(caplog)
    assert begin.startswith("is behind: 10 events wait for it")
    assert worse.startswith("is slower than the others: it takes 2 events (250 bytes) a second")
    assert end == "takes events again after 20 s; 300 events were dropped for it"
    assert last == "keeps up again after 30 s; 100 events were dropped for it"
    assert saying.told == [
        (ProblemKind.BEHIND, False, 0),
        (ProblemKind.SLOW, False, 0),
        (ProblemKind.SLOW, True, 100),
        (ProblemKind.BEHIND, True, 400),
    ]


def test_what_was_not_said_does_not_end_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    saying = Saying()
    saying.become(SLOW, BEHIND, FINE)
    worse, end = lines(caplog)
    assert worse.startswith("is slower")
    assert end == "takes events again after 10 s"


def test_an_early_warning_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    saying = Saying()
    for _ in range(7):
        saying.become(BEHIND, FINE, after_s=5.0)
    assert [text.split()[0] for text in lines(caplog)] == ["is", "keeps", "is", "keeps"]
    assert len(saying.told) == 14


def test_an_alarm_is_not_said_twice_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    saying = Saying()
    saying.sender.link = FakeLink("sender to sick:2", "low on disk")
    saying.become(BEHIND, STALLED, FINE)
    begin, end = lines(caplog)
    assert begin.endswith("It lets nobody publish: low on disk")
    assert end == "keeps up again after 20 s"


def test_a_broker_that_is_slow_and_then_stalled_is_said_twice_and_ends_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saying = Saying(waits=True)
    saying.become(SLOW, STALLED, FINE)
    slow, stalled, end = lines(caplog)
    assert "on_full='wait'" in slow
    assert "has confirmed nothing" in stalled
    assert end == "keeps up again after 20 s"
    kinds = [(kind, is_over) for kind, is_over, _ in saying.told]
    assert kinds == [
        (ProblemKind.SLOW, False),
        (ProblemKind.STALLED, False),
        (ProblemKind.SLOW, True),
        (ProblemKind.STALLED, True),
    ], "it does not take events again when it gets worse"


def test_what_a_spare_has_taken_over_was_not_confirmed_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saying = Saying()
    saying.become(STALLED, FINE, confirms=False)
    _, end = lines(caplog)
    assert end == "has nothing waiting for it any more after 10 s"


def test_what_a_trouble_has_cost_that_does_not_end_is_said_at_the_end_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saying = Saying()
    saying.become(SLOW)
    saying.sender.dropped = 1
    saying.end()
    _, end = lines(caplog)
    assert end == "does not keep up to the end; 1 event was dropped"


def test_the_troubles_of_a_broker_that_is_given_up_are_over() -> None:
    saying = Saying()
    saying.become(BEHIND, STALLED)
    saying.give_up()
    saying.give_up()
    last = [(one.kind, one.network, one.is_over) for one in saying.problems[2:]]
    assert last == [
        (ProblemKind.BEHIND, "miros.mesh", True),
        (ProblemKind.STALLED, "miros.mesh", True),
    ]


def test_of_a_broker_for_which_nobody_waits_it_is_not_said_that_transmit_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saying = Saying()
    saying.sender.is_doubtful = True
    saying.become(BEHIND, FINE)
    begin, _ = lines(caplog)
    assert "transmit waits" not in begin
    assert begin.endswith("as nobody has named it, and no node has announced it")
