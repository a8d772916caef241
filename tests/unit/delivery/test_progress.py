"""When a handler counts as stuck, and when that is said; in virtual time."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.progress import Progress, Repetition, Verdict

FINE, STUCK, STILL, OVER = Verdict


class Looks:
    """Looks once a second."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.now_s = 1_000.0

    def look(self, begun: int, *, waits: bool = True, after_s: float = 1.0) -> Verdict:
        self.now_s += after_s
        return self.progress.look(begun, waits=waits, now_s=self.now_s)


@pytest.fixture
def looks() -> Looks:
    return Looks(Progress(stuck_after_s=5.0))


def test_a_handler_that_does_not_return_while_events_wait_is_stuck_after_some_seconds(
    looks: Looks,
) -> None:
    assert [looks.look(7) for _ in range(8)] == [FINE] * 5 + [STUCK, STILL, STILL]
    assert looks.progress.stuck_s == 7.0
    assert looks.look(8) is OVER
    assert looks.progress.stuck_s == 8.0
    assert looks.look(8) is FINE


def test_a_handler_for_which_nothing_waits_is_never_stuck(looks: Looks) -> None:
    assert {looks.look(7, waits=False) for _ in range(100)} == {FINE}


def test_the_time_counts_from_when_something_waits(looks: Looks) -> None:
    for _ in range(100):
        looks.look(7, waits=False)
    assert [looks.look(7) for _ in range(5)] == [FINE] * 4 + [STUCK]


def test_a_chart_that_gets_on_is_never_stuck_however_much_waits(looks: Looks) -> None:
    assert {looks.look(count // 4) for count in range(400)} == {FINE}


def test_time_in_which_nobody_looked_hardly_counts(looks: Looks) -> None:
    """The whole process may have been frozen, or nothing was there to look at."""
    looks.look(7)
    assert looks.look(7, after_s=1_000.0) is FINE
    assert looks.look(7, after_s=1_000.0) is FINE
    assert looks.progress.stuck_s == 4.0


def test_it_stays_stuck_when_what_waited_was_taken_away(looks: Looks) -> None:
    for _ in range(6):
        looks.look(7)
    assert looks.look(7, waits=False) is STILL
    assert looks.look(8, waits=False) is OVER


# When it is said.


def test_what_lasts_is_said_after_a_minute_and_then_every_ten() -> None:
    repetition = Repetition()
    assert repetition.begin(0.0)
    said = [second for second in range(1, 3_000) if repetition.still(float(second))]
    assert said == [60, 660, 1_260, 1_860, 2_460]
    assert repetition.over(3_000.0)
    assert not repetition.over(3_001.0), "it is said once"


def test_what_comes_again_and_again_is_said_as_seldom_as_what_lasts() -> None:
    """A chart may need six seconds for each of its events, on purpose."""
    repetition = Repetition()
    begun = over = 0
    for second in range(0, 3_600, 6):
        begun += repetition.begin(float(second))
        over += repetition.over(second + 5.9)
    assert begun == over == 7


def test_after_ten_minutes_without_trouble_the_next_is_said_at_once() -> None:
    repetition = Repetition()
    assert repetition.begin(0.0)
    assert repetition.over(10.0)
    assert not repetition.begin(20.0)
    assert not repetition.over(30.0)
    assert repetition.begin(631.0)
