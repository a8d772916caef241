"""Problems are joined, bounded, and told in a thread of their own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from miros_rabbitmq.nets.problem_hub import PendingProblems, ProblemHub
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind

from ...helpers import end_child, scaled, wait_until


def slow(
    text: str = "slow", subject: str = "host:1", *, events: int = 0, is_over: bool = False
) -> DeliveryProblem:
    return DeliveryProblem(
        ProblemKind.SLOW, subject, text, "miros.mesh", events=events, is_over=is_over
    )


def dropped(events: int, text: str = "dropped") -> DeliveryProblem:
    return DeliveryProblem(ProblemKind.DROPPED, "host:1", text, "miros.mesh", events=events)


# What is pending.


def test_a_problem_is_told_once_and_at_once() -> None:
    pending = PendingProblems()
    assert pending.add(slow(), 10.0) == 10.0
    assert pending.take(10.0) == (slow(),)
    assert pending.take(99.0) == ()
    assert pending.next_due_s is None


def test_what_follows_is_joined_and_told_after_the_interval() -> None:
    pending = PendingProblems(interval_s=1.0)
    pending.add(dropped(1, "first"), 0.0)
    assert pending.take(0.0) == (dropped(1, "first"),)
    pending.add(dropped(2, "second"), 0.1)
    assert pending.add(dropped(3, "third"), 0.2) == 1.0
    assert pending.take(0.99) == ()
    assert pending.next_due_s == 1.0
    assert pending.take(1.0) == (dropped(5, "third"),)
    pending.add(dropped(1), 2.5)
    assert pending.take(2.5) == (dropped(1),), "it has rested for more than the interval"


def test_at_the_end_everything_is_told_without_a_wait() -> None:
    pending = PendingProblems(interval_s=1.0)
    pending.add(dropped(1), 0.0)
    pending.take(0.0)
    pending.add(dropped(2), 0.1)
    assert pending.take(0.1, everything=True) == (dropped(2),)


def test_other_kinds_networks_and_subjects_are_told_on_their_own() -> None:
    pending = PendingProblems()
    several = [
        slow(),
        slow(subject="host:2"),
        slow()._replace(network="miros.snoop.spy"),
        slow()._replace(kind=ProblemKind.BEHIND),
    ]
    for problem in several:
        pending.add(problem, 0.0)
    assert [pending.take(0.0) for _ in several] == [(problem,) for problem in several]


def test_a_begin_and_its_end_are_both_told() -> None:
    pending = PendingProblems()
    pending.add(slow("begins", events=1), 0.0)
    pending.add(slow("goes on", events=2), 0.0)
    pending.add(slow("ends", events=4, is_over=True), 0.0)
    assert len(pending) == 2
    assert pending.take(0.0) == (
        slow("goes on", events=3),
        slow("ends", events=4, is_over=True),
    )


@pytest.mark.parametrize("over_first", [False, True])
def test_of_one_that_comes_and_goes_the_latest_state_is_told_with_all_events(
    over_first: bool,
) -> None:
    for changes in range(3, 12):
        pending = PendingProblems()
        for number in range(changes):
            is_over = (number % 2 == 0) is over_first
            pending.add(slow(str(number), events=1, is_over=is_over), 0.0)
        told = pending.take(0.0)
        assert told[-1].text == str(changes - 1)
        assert told[-1].is_over is ((changes % 2 == 1) is over_first)
        assert sum(problem.events for problem in told) == changes
        assert [problem.is_over for problem in told] in (
            [told[-1].is_over],
            [not told[-1].is_over, told[-1].is_over],
        )


def test_of_too_many_subjects_the_oldest_go_and_are_counted() -> None:
    pending = PendingProblems(most_subjects=3)
    for number in range(5):
        pending.add(slow(subject=f"host:{number}"), 0.0)
    pending.add(slow(subject="host:0", is_over=True), 0.0)
    assert pending.take_dropped() == 3
    assert pending.take_dropped() == 0
    told = [pending.take(0.0)[0].subject for _ in range(3)]
    assert told == ["host:3", "host:4", "host:0"]


def test_the_times_of_what_was_told_are_bounded_too() -> None:
    pending = PendingProblems(most_subjects=3, interval_s=1.0)
    for number in range(100):
        pending.add(slow(subject=f"host:{number}"), 0.0)
        assert pending.take(0.0)
    pending.add(slow(subject="host:99"), 0.0)
    assert pending.take(0.5) == (), "the newest are remembered"
    pending.add(slow(subject="host:0"), 0.0)
    assert pending.take(0.5), "the oldest are not"


# The hub.


class Told:
    """A callback that notes what it is told, and in which thread; it can be held up."""

    def __init__(self) -> None:
        self.problems: list[DeliveryProblem] = []
        self.times: list[float] = []
        self.threads: set[str] = set()
        self.may_return = threading.Event()
        self.may_return.set()

    def __call__(self, problem: DeliveryProblem) -> None:
        self.times.append(time.monotonic())
        self.problems.append(problem)
        self.threads.add(threading.current_thread().name)
        assert self.may_return.wait(scaled(10))


def ignore(error: BaseException) -> None:
    raise AssertionError from error


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def hub(told: Told) -> Iterator[ProblemHub]:
    hub = ProblemHub("chart", told, ignore, lambda: PendingProblems(interval_s=0.2))
    hub.open()
    yield hub
    told.may_return.set()
    hub.close(scaled(5))


def test_the_callback_has_a_thread_of_its_own(hub: ProblemHub, told: Told) -> None:
    hub.report(slow())
    wait_until(lambda: told.problems == [slow()])
    assert told.threads == {"on_delivery_problem of chart"}


def test_a_burst_is_told_at_once_and_then_at_intervals(hub: ProblemHub, told: Told) -> None:
    began_s = time.monotonic()
    reported = 0
    while time.monotonic() < began_s + 0.7:
        hub.report(dropped(1))
        reported += 1
        time.sleep(0.001)
    wait_until(lambda: sum(problem.events for problem in told.problems) == reported)
    assert len(told.problems) > 1
    # One may come late, and the next then seems too soon: what holds is their number.
    assert told.times[-1] - told.times[0] > 0.2 * (len(told.times) - 1) - 0.1
    assert told.problems[0].events < reported / 2, "the first did not wait for the others"


def test_another_subject_does_not_wait_for_one_that_was_told(told: Told) -> None:
    hub = ProblemHub("patient", told, ignore, lambda: PendingProblems(interval_s=3600.0))
    hub.open()
    try:
        hub.report(slow("first"))
        wait_until(lambda: len(told.problems) == 1)
        hub.report(slow("second"))  # the thread now waits for an hour
        hub.report(slow("third", "host:2"))
        wait_until(lambda: len(told.problems) == 2)
        assert told.problems[1].text == "third"
    finally:
        hub.close(scaled(5))
    assert told.problems[2] == slow("second"), "the end does not wait"


def test_a_slow_callback_holds_up_no_report_and_is_told_what_was_joined(
    hub: ProblemHub, told: Told
) -> None:
    told.may_return.clear()
    hub.report(dropped(1))
    wait_until(lambda: told.problems)
    for _ in range(1_000):
        hub.report(dropped(1))
    assert len(told.problems) == 1
    told.may_return.set()
    wait_until(lambda: len(told.problems) == 2)
    assert told.problems[1].events == 1_000


def test_how_many_went_untold_is_logged(
    hub: ProblemHub, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.may_return.clear()
    hub.report(slow(subject="first"))
    wait_until(lambda: told.problems)
    for number in range(300):
        hub.report(slow(subject=str(number)))
    told.may_return.set()
    wait_until(lambda: len(told.problems) == 257)
    assert "there are too many: 44 not told" in caplog.text


def test_what_a_callback_raises_is_handed_on_and_it_is_called_again() -> None:
    told = []
    raised: list[BaseException] = []

    def fail(problem: DeliveryProblem) -> None:
        told.append(problem)
        raise SystemExit

    hub = ProblemHub("chart", fail, raised.append)
    hub.open()
    hub.report(slow())
    hub.report(slow(subject="host:2"))
    hub.close(scaled(5))
    assert len(told) == 2
    assert [type(error) for error in raised] == [SystemExit, SystemExit]


def test_the_end_tells_what_waits(hub: ProblemHub, told: Told) -> None:
    for number in range(100):
        hub.report(dropped(1))
        hub.report(slow(subject=str(number)))
    hub.close(scaled(5))
    assert sum(problem.events for problem in told.problems) == 100
    assert len({problem.subject for problem in told.problems}) == 101
    hub.report(slow("too late"))
    assert not [one for one in threading.enumerate() if one.name.startswith("on_delivery_problem")]
    hub.open()
    hub.report(slow("open again"))
    wait_until(lambda: told.problems[-1].text == "open again")


def test_the_end_gives_up_in_time_and_says_so(
    hub: ProblemHub, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.may_return.clear()
    hub.report(slow())
    wait_until(lambda: told.problems)
    hub.report(dropped(1))
    began_s = time.monotonic()
    hub.close(0.05)
    assert time.monotonic() < began_s + scaled(2)
    assert "1 more were not told" in caplog.text
    told.may_return.set()
    wait_until(
        lambda: "on_delivery_problem of chart" not in {one.name for one in threading.enumerate()}
    )
    assert told.problems == [slow()]


def test_the_callback_may_end_the_hub() -> None:
    told = []

    def end(problem: DeliveryProblem) -> None:
        told.append(problem)
        ended.close(scaled(60))

    ended = ProblemHub("chart", end, ignore)
    ended.open()
    ended.report(slow())
    wait_until(lambda: not [one for one in threading.enumerate() if "on_delivery" in one.name])
    assert told == [slow()]


def test_without_a_callback_nothing_happens() -> None:
    hub = ProblemHub("chart", None, ignore)
    hub.open()
    hub.report(slow())
    assert not [one for one in threading.enumerate() if "on_delivery" in one.name]
    hub.close(0.0)


def test_reports_from_many_threads_lose_no_event(hub: ProblemHub, told: Told) -> None:
    def report() -> None:
        for _ in range(500):
            hub.report(dropped(1))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(10))
    wait_until(lambda: sum(problem.events for problem in told.problems) == 2_000)


def test_a_forked_child_begins_with_nothing_and_tells_what_is_its_own(
    hub: ProblemHub, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    hub.report(dropped(1))
    wait_until(lambda: told.problems)
    hub.report(dropped(1))  # waits
    child = os.fork()
    if child == 0:
        told.problems.clear()
        hub.report(slow("before open"))
        hub.open()
        hub.report(slow())
        hub.close(5.0)
        end_child(0 if told.problems == [slow()] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait_until(lambda: len(told.problems) == 2)


def test_a_report_without_a_thread_for_it_is_told_with_the_next(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level(logging.ERROR)
    hub = ProblemHub("chart", told, ignore)
    hub.open()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        hub.report(slow())
    hub.report(dropped(1))
    wait_until(lambda: told.problems == [slow(), dropped(1)])
    hub.close(scaled(5))
