"""The robot's states on a bench: without a thread, a network or a clock."""

from __future__ import annotations

import pytest
from chart_bench import Bench
from robot import free


class RobotOnBench(Bench):
    shelf = 0  # what a robot remembers


@pytest.fixture
def robot() -> RobotOnBench:
    robot = RobotOnBench("wren")
    robot.start_at(free)
    return robot


def test_a_robot_fetches_what_it_was_asked_for(robot: RobotOnBench) -> None:
    assert robot.take("ORDER", 7) == "driving"
    assert robot.timers == {"ARRIVED": pytest.approx(0.7)}
    assert robot.ring("ARRIVED") == "loading"
    assert robot.told == []
    assert robot.ring("LOADED") == "free"
    assert robot.told == [("DONE", ("wren", 7))]
    assert robot.timers == {}


def test_orders_that_come_while_it_is_busy_are_done_in_their_order(robot: RobotOnBench) -> None:
    for shelf in (7, 3, 5):
        robot.take("ORDER", shelf)
    for _ in range(3):
        robot.ring("ARRIVED")
        robot.ring("LOADED")
    assert [shelf for _, (_, shelf) in robot.told] == [7, 3, 5]
    assert robot.state_name == "free"


@pytest.mark.parametrize("before", ["driving", "loading"])
def test_a_halted_robot_stands_and_goes_on_with_its_order(robot: RobotOnBench, before: str) -> None:
    robot.take("ORDER", 7)
    if before == "loading":
        robot.ring("ARRIVED")
    assert robot.take("HALT") == "halted"
    assert robot.timers == {}
    assert robot.take("RESUME") == "driving"
    assert robot.shelf == 7


def test_an_order_that_comes_before_the_resume_is_not_lost(robot: RobotOnBench) -> None:
    robot.take("HALT")
    assert robot.take("ORDER", 3) == "halted"
    assert robot.take("RESUME") == "driving"
    assert robot.shelf == 3


@pytest.mark.parametrize("events", [[], ["ORDER"], ["HALT"]])
def test_it_answers_the_roll_call_in_every_state(robot: RobotOnBench, events: list[str]) -> None:
    for signal in events:
        robot.take(signal, 7)
    before = robot.state_name
    assert robot.take("WHO_IS_THERE") == before
    assert robot.told == [("HERE", "wren")]


def test_the_trace_of_one_order(robot: RobotOnBench) -> None:
    robot.take("ORDER", 7)
    robot.ring("ARRIVED")
    robot.ring("LOADED")
    steps = [line.rpartition("] ")[2] for line in robot.trace().split("\n") if line]
    assert steps == [
        "e->start_at() top->free",
        "e->ORDER() free->driving",
        "e->ARRIVED() driving->loading",
        "e->LOADED() loading->free",
    ]


def test_a_timer_that_rings_too_late_does_no_harm(robot: RobotOnBench) -> None:
    assert robot.take("ARRIVED") == "free"
    assert robot.told == []
