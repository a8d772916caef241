"""What is said of a chart that does not return from a handler, and of a queue that fills up."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from miros_rabbitmq.limits import Limits
from miros_rabbitmq.nets.chart_watch import ChartTrouble, ChartWatch
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.whereabouts import Activity

LIMITS = Limits(queue_bytes=100 * 1024 * 1024)


class Robot:
    """A chart."""

    name = "robot"
    is_stuck_text = "has been in its handler"

    def __init__(self) -> None:
        self.count = 0
        self.queue = 0
        self.is_blocking = True
        self.doing = Activity("HELLO", "listening", "robot.py:12 in on_hello")

    def begun(self) -> int:
        return self.count

    def waiting(self) -> int:
        return self.queue

    def is_in_the_way(self) -> bool:
        return self.is_blocking

    def activity(self) -> Activity:
        return self.doing


class Watching:
    def __init__(self, *more: Any) -> None:
        self.now_s = 0.0
        self.robot = Robot()
        self.problems: list[DeliveryProblem] = []
        self.troubles: list[ChartTrouble] = []
        self.watch = ChartWatch(
            "robot",
            "miros.mesh",
            [self.robot, *more],
            LIMITS,
            report=self.problems.append,
            on_trouble=self.troubles.append,
            clock=lambda: self.now_s,
        )

    def look(self, seconds: int = 1, held: int = 0) -> bool:
        for _ in range(seconds):
            self.now_s += 1
            waits = self.watch.look(held)
        return waits


@pytest.fixture
def watching() -> Watching:
    return Watching()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage() for record in caplog.records]


def test_it_says_which_signal_in_which_state_where_for_how_long_and_what_waits(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.robot.queue = 250
    watching.watch.note_queue(1_700, 20.0)
    watching.look(6, held=32)
    assert lines(caplog) == [
        "miros.mesh: robot has been in its handler for 5 s (the signal HELLO in the state "
        "listening, at robot.py:12 in on_hello): 250 events wait for it, 32 messages are held, "
        "1,700 more wait at the broker"
    ]
    (problem,) = watching.problems
    assert problem.kind is ProblemKind.STUCK_CHART
    assert (problem.subject, problem.network, problem.is_over) == ("robot", "miros.mesh", False)
    assert problem.text in lines(caplog)[0]
    assert watching.troubles == [
        ChartTrouble(ProblemKind.STUCK_CHART, "robot", "HELLO", "listening", 5.0, 1_982)
    ]
    (stuck,) = watching.watch.stuck
    assert (stuck.name, stuck.signal, stuck.state) == ("robot", "HELLO", "listening")
    assert (stuck.seconds, stuck.waiting, stuck.at) == (5.0, 250, "robot.py:12 in on_hello")


def test_it_says_it_again_seldom_and_once_when_it_is_over(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.robot.queue = 1
    watching.look(900)
    watching.robot.count += 1
    assert not watching.watch.stuck, "already before the next look"
    watching.look(10)
    said = lines(caplog)
    assert len(said) == 4
    assert "for 5 s (" in said[0]
    assert "for 65 s (" in said[1]
    assert "for 665 s (" in said[2]
    assert said[3] == "miros.mesh: robot gets on again, after 900 s"
    assert [problem.is_over for problem in watching.problems] == [False, False, False, True]
    assert watching.troubles[-1].is_over


def test_a_handler_that_is_slow_on_purpose_is_not_spoken_of_while_nothing_waits(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    assert not watching.look(100)
    assert not lines(caplog)


def test_messages_that_are_held_wait_too(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    assert watching.look(6, held=1)
    assert len(lines(caplog)) == 1


def test_who_is_idle_while_messages_are_held_because_of_another_is_not_called_stuck(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.robot.is_blocking = False
    assert watching.look(60, held=1)
    assert not lines(caplog)
    assert watching.watch.stuck == ()


def test_all_is_well_when_nothing_is_stuck_and_the_queue_is_not_nearly_full(
    watching: Watching,
) -> None:
    watch, robot = watching.watch, watching.robot
    assert watch.is_well
    robot.queue = 1
    watching.look(6)
    watch.note_queue(900, 100_000.0)
    assert not watch.is_well
    robot.count += 1
    watching.look()
    assert not watch.is_well, "the queue is still nearly full"
    watch.note_queue(0, 100_000.0)
    assert watch.is_well


def test_a_chart_whose_thread_has_ended_is_spoken_of_as_that(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.robot.doing = Activity("", "listening", "")
    watching.robot.queue = 3
    watching.look(6)
    (line,) = lines(caplog)
    assert "robot handles nothing, as its thread has ended: 3 events wait" in line
    assert [trouble.state for trouble in watching.troubles] == [""]


def test_what_is_not_known_is_left_out(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.robot.doing = Activity(at="its start")
    watching.look(6, held=2)
    (line,) = lines(caplog)
    assert "for 5 s (at its start): 0 events wait for it, 2 messages are held" in line


def test_chart_and_callback_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    callback = Robot()
    callback.name, callback.is_stuck_text = "on_mesh_rx of robot", "has not returned"
    callback.doing = Activity("HELLO", "", "robot.py:40 in on_event")
    callback.queue = 2
    watching = Watching(callback)
    for _ in range(10):
        watching.robot.count += 1
        watching.look()
    (line,) = lines(caplog)
    assert "on_mesh_rx of robot has not returned for 5 s (the signal HELLO, at robot.py:40" in line
    assert [one.name for one in watching.watch.stuck] == ["on_mesh_rx of robot"]


def test_the_sizes_of_a_small_queue_are_said_in_smaller_units(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = ChartWatch("robot", "miros.mesh", [], Limits(queue_bytes=500_000))
    watch.note_queue(40, 10_240.0)
    (line,) = lines(caplog)
    assert "about 400 of at most 488 KiB (40 messages) wait in the queue of robot" in line


def test_what_was_wrong_before_a_new_start_is_over(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watch, robot = watching.watch, watching.robot
    watch.begin()
    assert not lines(caplog)
    robot.queue = 1
    watching.look(6)
    watch.note_queue(900, 100_000.0)
    watch.begin()
    assert (watch.is_well, watch.stuck) == (True, ())
    assert lines(caplog)[2:] == [
        "miros.mesh: robot is started anew; before that, it was stuck",
        "miros.mesh: robot is started anew, with an empty queue",
    ]
    assert [(one.kind, one.is_over) for one in watching.problems[2:]] == [
        (ProblemKind.STUCK_CHART, True),
        (ProblemKind.QUEUE, True),
    ]
    watching.look(100)
    assert "more wait at the broker" not in lines(caplog)[-1], "that was another queue"


def test_a_queue_that_is_nearly_full_is_said_once_and_once_when_it_is_not(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    for messages in (100, 200, 700, 800, 900, 800, 400, 0):
        watching.now_s += 10
        watching.watch.note_queue(messages, 100_000.0)
    near, far = lines(caplog)
    assert "about 76 of at most 100 MiB (800 messages) wait in the queue of robot" in near
    assert "at this rate it is full in 25 s" in near
    assert "only about 38 of" in far
    assert [(one.kind, one.is_over) for one in watching.problems] == [
        (ProblemKind.QUEUE, False),
        (ProblemKind.QUEUE, True),
    ]
    assert [(one.kind, one.waiting, one.is_over) for one in watching.troubles] == [
        (ProblemKind.QUEUE, 800, False),
        (ProblemKind.QUEUE, 400, True),
    ]
