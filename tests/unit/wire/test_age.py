"""What is too old, or from the future, for clocks that agree, are wrong, or jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.wire.age import AgeCheck

NOW_S = 1_800_000_000.0
YEAR_9999_S = 253_402_300_799.0


class Clocks:
    """The two clocks of a machine."""

    def __init__(self) -> None:
        self.wall_s = NOW_S
        self.monotonic_s = 5.0

    def pass_time(self, seconds: float) -> None:
        """Let both clocks run."""
        self.wall_s += seconds
        self.monotonic_s += seconds

    def check(self, max_age_s: float | None) -> AgeCheck:
        return AgeCheck(max_age_s, lambda: self.wall_s, lambda: self.monotonic_s)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def verdict(age: AgeCheck, sent_s: float, forgotten_ms: int = 0) -> RejectReason | None:
    """Why something that was sent then is refused; `None` if it is not."""
    try:
        age.check(int(sent_s * 1000), forgotten_ms)
    except MessageRejected as error:
        return error.reason
    return None


TOO_OLD, CLOCK_SKEW = RejectReason.TOO_OLD, RejectReason.CLOCK_SKEW


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (0, None),
        (300, None),
        (300.001, TOO_OLD),
        (10**9, TOO_OLD),
        (NOW_S, TOO_OLD),
        (-60, None),
        (-60.001, CLOCK_SKEW),
        (-(10**9), CLOCK_SKEW),
        (NOW_S - 2**64 / 1000, CLOCK_SKEW),
    ],
)
def test_an_age_is_the_time_since_the_sending_by_this_clock(
    clocks: Clocks, age_s: float, reason: RejectReason | None
) -> None:
    assert verdict(clocks.check(300), NOW_S - age_s) is reason


def test_a_clock_may_not_be_further_ahead_than_a_message_may_be_old(clocks: Clocks) -> None:
    age = clocks.check(5)
    assert verdict(age, NOW_S + 5) is None
    with pytest.raises(MessageRejected, match=r"6 s ahead of this one: let both follow NTP"):
        age.check(int((NOW_S + 6) * 1000))


def test_the_error_says_how_old_it_is_and_what_may_have_happened(clocks: Clocks) -> None:
    with pytest.raises(MessageRejected, match=r"3,600 s old: it was delayed or replayed, or"):
        clocks.check(300).check(int((NOW_S - 3_600) * 1000))


@given(
    sent_ms=st.sampled_from([0, int(YEAR_9999_S * 1000), 2**64 - 1]) | st.integers(0, 2**64 - 1),
    wall_s=st.sampled_from([0.0, -1e9, YEAR_9999_S]) | st.floats(-1e9, 1e12),
    forgotten_ms=st.integers(0, 2**64 - 1),
)
def test_without_a_greatest_age_nothing_is_ever_refused(
    sent_ms: int, wall_s: float, forgotten_ms: int
) -> None:
    """A machine without a clock boots in 1970, and others may believe that it is the year 9999."""
    age = AgeCheck(None, lambda: wall_s)
    assert not age.is_on
    age.check(sent_ms, forgotten_ms)
    age.begin()
    age.check(sent_ms, forgotten_ms)


# Before this node listened.


def test_what_was_sent_before_the_node_listened_is_refused_less_the_skew(clocks: Clocks) -> None:
    age = clocks.check(300)
    clocks.pass_time(1_000)
    age.begin()
    assert verdict(age, clocks.wall_s - 60) is None, "no more than a minute"
    assert verdict(age, clocks.wall_s - 60.1) is TOO_OLD
    clocks.pass_time(100)
    assert verdict(age, clocks.wall_s - 160) is None
    assert verdict(age, clocks.wall_s - 160.1) is TOO_OLD
    with pytest.raises(MessageRejected, match=r"200\.0 s before this node began to listen"):
        age.check(int((clocks.wall_s - 300) * 1000))


def test_a_short_greatest_age_also_ends_what_was_recorded_before_the_start(clocks: Clocks) -> None:
    age = clocks.check(30)
    clocks.pass_time(1_000)
    age.begin()
    assert verdict(age, clocks.wall_s - 7.5) is None, "a quarter"
    assert verdict(age, clocks.wall_s - 8) is TOO_OLD


def test_only_the_first_beginning_counts(clocks: Clocks) -> None:
    """The queue outlives a lost connection, and what it holds was sent to this node."""
    age = clocks.check(300)
    age.begin()
    clocks.pass_time(250)
    age.begin()
    assert verdict(age, NOW_S) is None


@pytest.mark.parametrize("jump_s", [-1e9, -3_600, -120, 120, 3_600, 1e9])
def test_a_clock_that_is_set_later_changes_nothing_for_what_is_sent_after(
    clocks: Clocks, jump_s: float
) -> None:
    """Such as at the first answer of NTP, when all clocks agree from then on."""
    age = clocks.check(300)
    age.begin()
    clocks.pass_time(1)
    clocks.wall_s += jump_s
    for _ in range(3):
        assert verdict(age, clocks.wall_s) is None
        assert verdict(age, clocks.wall_s - 60) is None
        assert verdict(age, clocks.wall_s + 60) is None
        clocks.pass_time(500)
    assert verdict(age, clocks.wall_s - 300) is None
    assert verdict(age, clocks.wall_s - 301) is TOO_OLD


# Of senders that this node has forgotten.


def test_of_an_unknown_sender_nothing_is_taken_that_may_be_of_a_forgotten_one(
    clocks: Clocks,
) -> None:
    age = clocks.check(300)
    forgotten_ms = age.steady_ms(int(NOW_S * 1000) - 5_000)
    assert verdict(age, NOW_S - 10, forgotten_ms) is TOO_OLD
    assert verdict(age, NOW_S - 5, forgotten_ms) is TOO_OLD
    assert verdict(age, NOW_S - 4, forgotten_ms) is None
    assert verdict(age, NOW_S - 10) is None, "a sender that is known, or none was forgotten"


def test_a_forgotten_sender_from_the_future_makes_nobody_else_unheard(clocks: Clocks) -> None:
    age = clocks.check(300)
    for ahead_ms in (30_000, 10**12):
        forgotten_ms = age.steady_ms(int(NOW_S * 1000) + ahead_ms)
        clocks.pass_time(1)
        assert verdict(age, clocks.wall_s, forgotten_ms) is None


@pytest.mark.parametrize("jump_s", [-1e9, -3_600, 3_600, 1e9])
def test_a_clock_that_is_set_makes_no_new_sender_unheard(clocks: Clocks, jump_s: float) -> None:
    """All clocks were wrong, senders were forgotten, and then all clocks are set."""
    age = clocks.check(300)
    forgotten_ms = age.steady_ms(int(clocks.wall_s * 1000))
    clocks.wall_s += jump_s
    clocks.pass_time(1)
    assert verdict(age, clocks.wall_s, forgotten_ms) is None
    assert verdict(age, clocks.wall_s - 2, forgotten_ms) is TOO_OLD, "it may be a repetition"


def test_without_a_greatest_age_no_time_is_remembered(clocks: Clocks) -> None:
    assert AgeCheck(None, lambda: clocks.wall_s).steady_ms(5) == 0
