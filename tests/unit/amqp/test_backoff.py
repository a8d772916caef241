"""The waits between attempts: they double up to a limit, and start anew after a good connection."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp.backoff import Backoff
from miros_rabbitmq.limits import Limits

LIMITS = Limits(reconnect_min_s=0.1, reconnect_max_s=5.0, refused_retry_s=30.0)


def ceilings(delays: list[float]) -> list[float]:
    """Of each wait, the power of two of the shortest that it lies half below."""
    return [min(5.0, 0.1 * 2**n) for n in range(len(delays))]


def fail(backoff: Backoff, times: int, now_s: float = 0.0) -> list[float]:
    return [backoff.fail(now_s, refused=False) for _ in range(times)]


def test_the_waits_double_up_to_the_limit_and_are_spread() -> None:
    for _ in range(50):
        delays = fail(Backoff(LIMITS), 12)
        for delay_s, ceiling_s in zip(delays, ceilings(delays), strict=True):
            assert ceiling_s / 2 <= delay_s <= ceiling_s
    assert len({fail(Backoff(LIMITS), 1)[0] for _ in range(20)}) > 1


def test_an_outage_of_years_overflows_nothing() -> None:
    assert fail(Backoff(LIMITS), 100_000)[-1] <= 5.0


@pytest.mark.parametrize("attempts", [0, 7])
def test_after_a_good_connection_the_first_wait_is_short_again(attempts: int) -> None:
    backoff = Backoff(LIMITS)
    fail(backoff, attempts)
    backoff.succeed(100.0)
    assert backoff.fail(102.1, refused=False) <= 0.1
    assert backoff.fail(102.2, refused=False) > 0.1


def test_a_broker_that_drops_us_at_once_is_tried_less_and_less_often() -> None:
    backoff = Backoff(LIMITS)
    delays = []
    for n in range(10):
        backoff.succeed(float(n))
        delays.append(backoff.fail(n + 0.5, refused=False))
    assert delays[0] <= 0.2
    assert delays[-1] >= 2.5
    assert backoff.is_short_lived, "that others are connected tells it nothing"
    backoff.succeed(100.0)
    backoff.fail(200.0, refused=False)
    assert not backoff.is_short_lived


def test_a_refusal_waits_its_own_time_and_is_no_attempt() -> None:
    backoff = Backoff(LIMITS)
    assert [backoff.fail(0.0, refused=True) for _ in range(5)] == [30.0] * 5
    assert backoff.fail(0.0, refused=False) <= 0.1
