"""When the rounds of a search come."""

from __future__ import annotations

import math

import pytest

from miros_rabbitmq.discovery.rounds import FRESH_S, Rounds


def test_the_first_round_comes_at_once_and_the_others_at_intervals() -> None:
    rounds = Rounds(60.0)
    assert rounds.is_due(1000.0)
    assert rounds.wait_s(1000.0) == 0
    rounds.begin(1000.0)
    assert rounds.wait_s(1010.0) == 50
    assert not rounds.is_due(1059.9)
    assert rounds.is_due(1060.0)
    assert rounds.wait_s(1070.0) == 0


def test_without_an_interval_there_is_one_round() -> None:
    rounds = Rounds(0.0)
    rounds.begin(0.0)
    assert not rounds.is_due(1e9)
    assert rounds.wait_s(0.0) == math.inf


def test_a_round_may_be_hastened() -> None:
    rounds = Rounds(0.0)
    rounds.begin(0.0)
    rounds.hasten(5.0)
    assert rounds.is_due(5.0)
    rounds.begin(5.0)
    assert not rounds.is_due(6.0)


@pytest.mark.parametrize("interval_s", [0.0, 60.0])
def test_a_node_that_joins_gets_a_round_soon_after_the_last(interval_s: float) -> None:
    rounds = Rounds(interval_s)
    rounds.join()
    assert not rounds.is_wanted(1e9), "the first round is for it"
    rounds.begin(100.0)
    rounds.join()
    rounds.join()
    assert not rounds.is_due(100.0 + FRESH_S - 0.1)
    assert rounds.is_wanted(100.0 + FRESH_S)
    assert rounds.is_due(100.0 + FRESH_S)
    rounds.begin(100.0 + FRESH_S)
    assert not rounds.is_wanted(1e9), "one for all that have joined"
    assert rounds.wait_s(110.0) == (interval_s or math.inf)


@pytest.mark.parametrize(
    ("interval_s", "pauses_s"),
    [(0.0, [2, 4, 8, 16, 32, 60, 60]), (10.0, [2, 4, 8, 10, 10]), (1.0, [1, 1])],
)
def test_where_something_is_short_rounds_come_later_and_later_until_one_succeeds(
    interval_s: float, pauses_s: list[float]
) -> None:
    rounds = Rounds(interval_s)
    now_s = 0.0
    for at, pause_s in enumerate(pauses_s):
        rounds.begin(now_s)
        assert rounds.starve(now_s) is (at == 0)
        assert rounds.wait_s(now_s) == pause_s
        now_s += pause_s
    rounds.begin(now_s)
    assert rounds.recover()
    assert not rounds.recover()
    rounds.begin(now_s)
    assert rounds.wait_s(now_s) == (interval_s or math.inf)


def test_what_is_short_again_before_the_next_round_does_not_put_it_off() -> None:
    """Each look fails, too, where a round has: it comes every two seconds."""
    rounds = Rounds(0.0)
    rounds.begin(0.0)
    assert rounds.starve(1.0)
    for now_s in (1.0, 2.0, 2.9):
        assert not rounds.starve(now_s)
    assert rounds.wait_s(2.9) == pytest.approx(0.1)
    rounds.begin(3.0)
    assert not rounds.starve(3.0)
    assert rounds.wait_s(3.0) == 4
    rounds.begin(7.0)
    assert rounds.recover()
    assert rounds.starve(8.0), "and what is short later is news"
    assert rounds.wait_s(8.0) == 2


def test_a_round_that_fails_for_another_reason_does_not_end_a_shortage() -> None:
    rounds = Rounds(60.0)
    rounds.begin(0.0)
    rounds.starve(0.0)
    rounds.begin(2.0)
    assert rounds.wait_s(2.0) == 2
