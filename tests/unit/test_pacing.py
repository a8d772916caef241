"""The tempo of a publisher: its bounds, its answer to a jump, and its calm at a constant depth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.limits import Limits
from miros_rabbitmq.pacing import Pid, Tempo

FAST_S, SLOW_S, FULL = 0.001, 0.1, 256

HAIR = 1e-9
"""How far rounding may carry the fast tempo below itself, as a part of it."""


class Clockwork:
    """A tempo that beats as it says itself."""

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
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), SILENCES), max_size=30))
def test_the_controllers_output_is_always_between_0_and_1(
    samples: list[tuple[float, float]],
) -> None:
    pid = Pid(1.0, 2.0, 0.001)
    assert all(0.0 <= pid.update(error, elapsed_s) <= 1.0 for error, elapsed_s in samples)


def test_the_first_sample_has_no_slope() -> None:
    assert Pid(0.0, 0.0, 1.0).update(0.5, 0.1) == 0.0


def test_a_proportional_controller_gives_the_error_times_its_gain() -> None:
    pid = Pid(0.5, 0.0, 0.0)
    assert pid.update(0.6, 0.1) == pytest.approx(0.3)
    assert pid.update(0.2, 0.1) == pytest.approx(0.1)


def test_an_integral_controller_sums_the_error_over_time() -> None:
    pid = Pid(0.0, 2.0, 0.0)
    assert pid.update(0.5, 0.1) == pytest.approx(0.1)
    assert pid.update(0.5, 0.2) == pytest.approx(0.3)


def test_a_derivative_controller_answers_the_slope() -> None:
    pid = Pid(0.0, 0.0, 0.1)
    pid.update(0.0, 0.1)
    assert pid.update(0.5, 0.1) == pytest.approx(0.5)
    assert pid.update(0.5, 0.1) == 0.0


def test_two_samples_of_the_same_moment_divide_nothing_by_zero() -> None:
    pid = Pid(1.0, 1.0, 1.0)
    pid.update(0.1, 0.0)
    assert pid.update(0.9, 0.0) == pytest.approx(0.9)


def test_the_integral_winds_up_no_further_than_the_output_reaches() -> None:
    pid = Pid(0.0, 1.0, 0.0)
    for _ in range(1_000):
        pid.update(1.0, 10.0)
    assert pid.update(-0.5, 1.0) == pytest.approx(0.5)


def test_after_a_reset_a_controller_is_as_new() -> None:
    used, new = Pid(1.0, 2.0, 0.01), Pid(1.0, 2.0, 0.01)
    for error in (0.1, 0.9, 0.4):
        used.update(error, 0.1)
    used.reset()
    assert used.update(0.3, 0.1) == new.update(0.3, 0.1)


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


def test_a_full_queue_makes_it_fast_at_once() -> None:
    assert Clockwork().beat(FULL) == pytest.approx(FAST_S)


def test_it_is_fast_within_a_few_beats_of_a_jump_from_empty_to_full() -> None:
    clockwork = Clockwork()
    clockwork.beats(0, 20)
    assert clockwork.beats(FULL, 3)[-1] == pytest.approx(FAST_S)


def test_it_is_slow_within_a_few_beats_of_a_fall_from_full_to_empty() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL, 200)
    assert clockwork.beats(0, 3)[-1] == pytest.approx(SLOW_S)


@pytest.mark.parametrize("depth", [FULL // 8, FULL // 2])
def test_it_is_slow_within_a_few_beats_of_a_fall_from_any_depth_to_empty(depth: int) -> None:
    clockwork = Clockwork()
    clockwork.beats(depth, 500)
    assert clockwork.beats(0, 50)[-1] == pytest.approx(SLOW_S)


def test_beyond_full_a_deeper_queue_changes_nothing() -> None:
    one, other = Clockwork(), Clockwork()
    assert one.beats(FULL, 20) == other.beats(100 * FULL, 20)


@pytest.mark.parametrize("depth", [1, 10, FULL // 2, FULL - 1])
def test_at_a_constant_depth_it_does_not_oscillate(depth: int) -> None:
    tempos = Clockwork().beats(depth, 300)
    assert tempos == sorted(tempos, reverse=True)


def test_a_deeper_queue_is_never_answered_by_a_slower_tempo() -> None:
    first_beats = [Clockwork().beat(depth) for depth in range(0, FULL + 1, 8)]
    assert first_beats == sorted(first_beats, reverse=True)


def test_a_queue_that_fills_slowly_is_answered_steadily() -> None:
    clockwork = Clockwork()
    tempos = [clockwork.beat(depth) for depth in range(0, 2 * FULL, 4)]
    assert tempos == sorted(tempos, reverse=True)
    assert tempos[-1] == pytest.approx(FAST_S)


def test_a_long_outage_with_a_full_queue_winds_nothing_up() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL, 50)
    clockwork.now_s += 3_600.0
    assert clockwork.beat(FULL) == pytest.approx(FAST_S)  # the backlog goes out quickly
    assert clockwork.beats(0, 3)[-1] == pytest.approx(SLOW_S)


def test_after_a_silence_it_begins_as_new() -> None:
    clockwork = Clockwork()
    clockwork.beats(FULL // 2, 500)
    clockwork.now_s += 2 * SLOW_S + 0.01
    assert clockwork.beat(FULL // 2) == Clockwork().beat(FULL // 2)


def test_the_tempo_in_force_can_be_looked_at() -> None:
    clockwork = Clockwork()
    assert clockwork.beat(FULL // 4) == clockwork.tempo.current_s


def test_the_default_limits_span_two_decades() -> None:
    limits = Limits()
    tempo = Tempo(limits.tempo_fast_s, limits.tempo_slow_s, limits.batch_events)
    assert math.isclose(tempo.beat(limits.batch_events, 0.0), limits.tempo_fast_s)
    assert limits.tempo_slow_s == pytest.approx(50 * limits.tempo_fast_s)
