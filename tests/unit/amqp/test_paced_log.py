"""What a receiver says of losses and rejections: how often, of whom, and what is left unsaid."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp.paced_log import CallLater, PacedLog
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind


class Saying:
    """A log with a clock and a timer that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        self.problems: list[DeliveryProblem] = []
        self.log = PacedLog("tested", "net", self.problems.append)
        self.timers: list[tuple[float, object]] = []

    def use_timer(self) -> None:
        call_later: CallLater = lambda delay_s, callback: self.timers.append(  # noqa: E731
            (self.now_s + delay_s, callback)
        )
        self.log.use_timer(call_later)

    def gap(self, sender: str, events: int = 1) -> None:
        self.log.say(ProblemKind.GAP, sender, sender, _words, events)

    def wait(self, seconds: float) -> None:
        """Let time pass, with the timers that are due in it."""
        until_s = self.now_s + seconds
        while self.timers and min(at_s for at_s, _ in self.timers) <= until_s:
            self.timers.sort(key=lambda one: one[0])
            at_s, callback = self.timers.pop(0)
            self.now_s = max(self.now_s, at_s)
            callback()  # type: ignore[operator]
        self.now_s = until_s

    @property
    def said(self) -> list[str]:
        return [problem.text.removeprefix("tested: ") for problem in self.problems]


def _words(events: int, whom: str, is_more: bool) -> str:
    return f"{events} {'more ' if is_more else ''}of {whom}"


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Saying:
    return Saying(monkeypatch)


def test_a_subject_is_named_at_once_and_then_with_everything_since_at_the_next_minute(
    saying: Saying, caplog: pytest.LogCaptureFixture
) -> None:
    saying.use_timer()
    saying.gap("a", 1)
    for _ in range(100):
        saying.gap("a", 48)
    assert saying.said == ["1 of 'a'"]
    saying.wait(59)
    assert saying.said == ["1 of 'a'"]
    saying.wait(2)
    assert saying.said == ["1 of 'a'", "4800 more of 'a'"]
    assert [record.getMessage() for record in caplog.records] == [
        f"tested: {line}" for line in saying.said
    ]
    saying.wait(1_000)
    assert len(saying.said) == 2
    saying.gap("a", 3)
    assert saying.said[-1] == "3 more of 'a'"
    problem = saying.problems[1]
    assert problem == DeliveryProblem(
        ProblemKind.GAP, "a", "tested: 4800 more of 'a'", "net", events=4_800
    )


def test_two_subjects_do_not_share_their_minute(saying: Saying) -> None:
    saying.use_timer()
    saying.gap("a")
    saying.wait(30)
    saying.gap("b")
    saying.gap("a", 5)
    saying.gap("b", 7)
    assert saying.said == ["1 of 'a'", "1 of 'b'"]
    saying.wait(31)
    assert saying.said[2:] == ["5 more of 'a'"]
    saying.wait(30)
    assert saying.said[3:] == ["7 more of 'b'"]
    assert saying.timers == []


def test_without_a_timer_the_rest_is_said_with_the_next_or_when_it_is_asked_for(
    saying: Saying,
) -> None:
    for _ in range(3):
        saying.gap("a")
    saying.wait(100)
    saying.gap("a")
    assert saying.said == ["1 of 'a'", "3 more of 'a'"]
    saying.gap("a", 9)
    saying.log.say_rest()
    saying.log.say_rest()
    assert saying.said[2:] == ["9 more of 'a'"]


def test_a_timer_that_went_with_its_thread_is_replaced(saying: Saying) -> None:
    saying.use_timer()
    saying.gap("a")
    saying.gap("a")
    saying.timers.clear()  # the link has ended, and begins anew much later
    saying.wait(200)
    saying.gap("b")
    saying.gap("b")
    saying.wait(61)
    assert saying.said == ["1 of 'a'", "1 of 'b'", "1 more of 'a'", "1 more of 'b'"]


def test_made_up_subjects_share_a_line_beyond_a_bound_and_make_room_when_they_are_silent(
    saying: Saying,
) -> None:
    saying.use_timer()
    for number in range(10_000):
        saying.gap(f"made up {number}")
    assert len(saying.said) == 65
    assert saying.said[-1] == "1 of further senders"
    saying.wait(60)
    assert saying.said[65:] == [f"{10_000 - 65} more of further senders"]
    saying.gap("honest", 5)
    assert saying.said[-1] == "5 of 'honest'"


def test_kinds_do_not_push_out_each_other(saying: Saying) -> None:
    for number in range(100):
        saying.log.say(ProblemKind.REJECTED, number, f"made up {number}", _words)
    saying.gap("honest")
    assert saying.said[-1] == "1 of 'honest'"


def test_what_is_said_once_is_not_said_again(saying: Saying) -> None:
    for about in ("a", "b", "a"):
        saying.log.say_once(ProblemKind.REJECTED, about, "", f"it is {about}")
        saying.wait(1_000)
    assert saying.said == ["it is a", "it is b"]


def test_a_name_is_cut_and_cannot_forge_a_line(saying: Saying) -> None:
    saying.gap("x\nCRITICAL " + 200 * "y")
    (line,) = saying.said
    assert line.isprintable()
    assert len(line) < 100


def test_what_is_said_once_is_bounded_though_somebody_makes_up_more_of_it(saying: Saying) -> None:
    def flood(first: int) -> int:
        before = len(saying.said)
        for number in range(first, first + 1_000):
            saying.log.say_once(ProblemKind.GAP, number, "a", f"jump {number}")
        return len(saying.said) - before

    assert flood(0) <= 64
    assert flood(1_000) == 0
    saying.wait(60)
    assert 0 < flood(2_000) <= 64
