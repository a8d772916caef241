"""The tempo of a publisher: its bounds, its answer to a jump, and its steadiness at one depth."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.delivery.pacing import Pid, Tempo
from miros_rabbitmq.limits import Limits

FAST_S, SLOW_S, FULL = 0.001, 0.05, 512

HAIR = 1e-9
"""How far rounding may carry the fast tempo below itself, as a part of it."""

TARGET = FULL * Tempo.SET_POINT


class Clockwork:
    """Beat at the times that the tempo itself gives."""

    def __init__(self) -> None:
        self.tempo = Tempo(FAST_S, SLOW_S, FULL)
        self.now_s = 100.0

    def beat(self, depth: int) -> float:
        tempo_s = self.tempo.beat(depth, self.now_s)
        self.now_s += tempo_s
        return tempo_s

    def beats(self, depth: int, times: int) -> list[float]:
        return [self.beat(depth) for _ in range(times)]


def is_within_bounds(tempo_s: float, fast_s: float = FAST_S, slow_s: float = SLOW_S) -> bool:
    return fast_s * (1 - HAIR) <= tempo_s <= slow_s * (1 + HAIR)


DEPTHS = st.integers(0, 20_000)
SILENCES = st.floats(0, 1e6) | st.floats(0, 0.3)


# The controller.


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-1e3, 1e3), max_size=30))
def test_the_controllers_output_is_always_between_0_and_1(errors: list[float]) -> None:
    pid = Pid(0.1, 0.6, 0.02)
    assert all(0.0 <= pid.update(error) <= 1.0 for error in errors)


def test_the_first_sample_has_no_slope() -> None:
    assert Pid(1.0, 0.0, 1.0).update(0.5) == 0.0


def test_a_proportional_controller_follows_the_changes_of_the_error() -> None:
    pid = Pid(0.5, 0.0, 0.0)
    pid.update(0.0)
    assert pid.update(0.6) == pytest.approx(0.3)
    assert pid.update(0.2) == pytest.approx(0.1)


def test_an_integral_controller_sums_the_error() -> None:
    pid = Pid(0.0, 0.2, 0.0)
    assert pid.update(0.5) == pytest.approx(0.1)
    assert pid.update(1.0) == pytest.approx(0.3)
    assert pid.update(-0.5) == pytest.approx(0.2)


def test_a_derivative_controller_answers_the_slope_and_lets_go_of_it() -> None:
    pid = Pid(0.0, 0.0, 0.5)
    pid.update(0.0)
    assert pid.update(0.5) == pytest.approx(0.25)
    assert pid.update(0.5) == 0.0


def test_the_integral_does_not_wind_up() -> None:
    """However long the output was at its limit, the first error of the other sign changes it."""
    pid = Pid(0.0, 1.0, 0.0)
    for _ in range(1_000):
        pid.update(1.0)
    assert pid.update(-0.25) == pytest.approx(0.75)
    for _ in range(1_000):
        pid.update(-1.0)
    assert pid.update(0.25) == pytest.approx(0.25)


def test_after_a_reset_a_controller_is_like_new() -> None:
    used, new = Pid(0.1, 0.6, 0.02), Pid(0.1, 0.6, 0.02)
    for error in (0.1, 0.9, 0.4):
        used.update(error)
    used.reset()
    assert used.update(0.3) == new.update(0.3)


# The tempo.


@settings(deadline=None, max_examples=200)
@given(
    st.floats(1e-4, 0.1),
    st.floats(1, 1000),
    st.integers(1, 1_000),
    st.lists(st.tuples(DEPTHS, SILENCES), min_size=1, max_size=40),
)
def test_the_tempo_is_always_between_fast_and_slow(
    fast_s: float, ratio: float, full: int, beats: list[tuple[int, float]]
) -> None:
    slow_s = fast_s * ratio
    tempo = Tempo(fast_s, slow_s, full)
    assert is_within_bounds(tempo.current_s, fast_s, slow_s)
    now_s = 0.0
    for depth, silence_s in beats:
        now_s += silence_s
        assert is_within_bounds(tempo.beat(depth, now_s), fast_s, slow_s)
        assert is_within_bounds(tempo.current_s, fast_s, slow_s)


def test_a_new_tempo_is_slow() -> None:
    assert Tempo(FAST_S, SLOW_S, FULL).current_s == SLOW_S
    assert Clockwork().beat(0) == SLOW_S


@pytest.mark.parametrize("depth", [10 * FULL, 20_000])
def test_it_is_fast_within_a_few_beats_of_a_jump_from_empty(depth: int) -> None:
    clockwork = Clockwork()
    clockwork.beats(0, 20)
    assert clockwork.beats(depth, 3)[-1] == pytest.approx(FAST_S)


def test_it_is_slow_within_a_few_beats_of_a_fall_from_full_to_empty() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL, 200)
    assert clockwork.beats(0, 3)[-1] == pytest.approx(SLOW_S)


@pytest.mark.parametrize("depth", [FULL // 8, FULL // 2])
def test_it_is_slow_within_a_few_beats_of_a_fall_from_any_depth_to_empty(depth: int) -> None:
    clockwork = Clockwork()
    clockwork.beats(depth, 500)
    assert clockwork.beats(0, 3)[-1] == pytest.approx(SLOW_S)


def settle(clockwork: Clockwork, rate: float, beats: int) -> list[float]:
    """The tempos at a steady rate, in events a second."""
    tempos = []
    arrived = 0.0
    for _ in range(beats):
        arrived += rate * clockwork.tempo.current_s
        depth = int(arrived)
        arrived -= depth
        tempos.append(clockwork.beat(depth))
    return tempos


RATES = st.floats(0, 6).map(lambda decades: 10.0**decades)


@settings(deadline=None, max_examples=200)
@given(RATES, RATES)
def test_at_a_steady_rate_it_settles_within_some_beats_and_stays(
    before: float, rate: float
) -> None:
    """The closed loop: the events that come within a tempo are what the next beat finds."""
    clockwork = Clockwork()
    settle(clockwork, before, 20)
    tempos = settle(clockwork, rate, 40)
    ideal_s = min(max(TARGET / rate, FAST_S), SLOW_S)
    # A depth is a whole number of events.
    leeway = 1.5 / min(TARGET, max(1.0, rate * ideal_s)) if rate > TARGET / SLOW_S else 0.0
    for tempo_s in tempos[8:]:
        assert tempo_s == pytest.approx(ideal_s, rel=0.05 + leeway)


@settings(deadline=None, max_examples=100)
@given(st.floats(3, 4.3).map(lambda decades: 10.0**decades))
def test_a_step_of_the_rate_is_answered_without_oscillation(rate: float) -> None:
    clockwork = Clockwork()
    settle(clockwork, 1.0, 20)
    tempos = settle(clockwork, rate, 40)
    swings = [
        one - other for one, other in itertools.pairwise(tempos) if abs(one - other) > 0.05 * one
    ]
    turns = sum(one * other < 0 for one, other in itertools.pairwise(swings))
    assert turns <= 2, tempos


def test_a_deeper_queue_is_never_answered_by_a_slower_tempo() -> None:
    first_beats = [Clockwork().beat(depth) for depth in range(0, FULL + 1, 8)]
    assert first_beats == sorted(first_beats, reverse=True)


def test_a_queue_that_fills_slowly_is_answered_steadily() -> None:
    clockwork = Clockwork()
    tempos = [clockwork.beat(depth) for depth in range(0, 2 * FULL, 4)]
    assert tempos == sorted(tempos, reverse=True)
    assert tempos[-1] == pytest.approx(FAST_S)


def test_a_long_outage_with_a_full_queue_causes_no_windup() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL, 50)
    clockwork.now_s += 3_600.0
    assert clockwork.beats(20_000, 3)[-1] == pytest.approx(FAST_S)  # the backlog goes out quickly
    assert clockwork.beats(0, 3)[-1] == pytest.approx(SLOW_S)


def test_after_a_silence_it_begins_as_new() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL // 2, 500)
    clockwork.now_s += 2 * SLOW_S + 0.01
    assert clockwork.beat(FULL // 2) == Clockwork().beat(FULL // 2)


def test_the_tempo_in_force_can_be_looked_at() -> None:
    clockwork = Clockwork()
    assert clockwork.beat(FULL // 4) == clockwork.tempo.current_s


def test_two_equal_tempos_are_constant() -> None:
    tempo = Tempo(0.01, 0.01, FULL)
    assert [tempo.beat(depth, 0.0) for depth in (0, 1, FULL, 10 * FULL)] == [0.01] * 4


def test_the_limits_tested_here_are_the_defaults() -> None:
    limits = Limits()
    assert (limits.tempo_fast_s, limits.tempo_patient_s, limits.batch_events) == (
        FAST_S,
        SLOW_S,
        FULL,
    )
    assert limits.tempo_slow_s < limits.tempo_patient_s
