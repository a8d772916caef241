"""A few nacks are repaired by sending again; a queue that takes nothing gets no such patience."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.bursts import Bursts
from miros_rabbitmq.delivery.nacks import CALM_S, Nacks

START_S = 1_000.0


def used_up(attempts: int = 3, now_s: float = START_S) -> Nacks:
    nacks = Nacks(attempts)
    assert [nacks.resends(now_s) for _ in range(attempts + 1)] == [True] * attempts + [False]
    assert nacks.is_refusing
    return nacks


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_broker_has_some_attempts_and_then_its_nacks_count_at_once(attempts: int) -> None:
    nacks = used_up(attempts)
    assert not any(nacks.resends(START_S + at_s) for at_s in (0.1, 1.0, 30.0, CALM_S - 0.1))


def test_attempts_that_are_spread_over_a_minute_count_together() -> None:
    """Confirms in between change nothing: they are of other messages."""
    nacks = Nacks(3)
    times = [START_S + n * (CALM_S - 1) for n in range(5)]
    assert [nacks.resends(at_s) for at_s in times] == [True, True, True, False, False]


def test_a_broker_that_nacks_nothing_for_a_minute_has_all_attempts_again() -> None:
    nacks = Nacks(2)
    for n in range(10):
        assert nacks.resends(START_S + n * CALM_S)
    assert not nacks.is_refusing
    nacks = used_up(2)
    later_s = START_S + CALM_S
    assert [nacks.resends(later_s) for _ in range(3)] == [True, True, False]


def test_after_a_minute_of_nacks_one_attempt_decides_for_the_next_minute() -> None:
    nacks = used_up()
    times = [START_S + n for n in range(1, 200)]
    resent = [at_s for at_s in times if nacks.resends(at_s)]
    assert resent == [START_S + CALM_S, START_S + 2 * CALM_S + 1, START_S + 3 * CALM_S + 2]
    assert nacks.is_refusing, "it has never ended"


def test_the_end_is_told_once_a_minute_after_the_last_nack() -> None:
    nacks = used_up()
    nacks.resends(START_S + 10)
    assert not nacks.ends(START_S + 10 + CALM_S - 0.1)
    assert nacks.is_refusing
    assert nacks.ends(START_S + 10 + CALM_S)
    assert not nacks.is_refusing
    assert not nacks.ends(START_S + 10 + CALM_S)
    assert nacks.resends(START_S + 10 + CALM_S)


def test_what_never_began_does_not_end() -> None:
    nacks = Nacks(3)
    assert not nacks.ends(START_S)
    nacks.resends(START_S)
    assert not nacks.ends(START_S + 2 * CALM_S)


def test_a_burst_of_losses_is_said_once_and_the_next_line_counts_the_rest() -> None:
    bursts = Bursts()
    assert bursts.note(1, 0.0) == 0
    assert [bursts.note(2, now_s) for now_s in (0.0, 1.0, 59.9)] == [None] * 3
    assert bursts.note(5, 60.0) == 6
    assert bursts.note(1, 120.0) == 0
