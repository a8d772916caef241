"""The brokers that others announce: whom to ask, how often, and when they are forgotten."""

from __future__ import annotations

from miros_rabbitmq.discovery.announced import AnnouncedBrokers
from miros_rabbitmq.urls import Address

ONE, TWO, THREE = (Address(f"10.0.0.{number}") for number in (1, 2, 3))
AGAIN_S, SILENCE_S = 30.0, 300.0


def brokers() -> AnnouncedBrokers:
    return AnnouncedBrokers(most=2, ask_again_s=AGAIN_S, silence_s=SILENCE_S)


def test_each_is_asked_at_once_and_then_now_and_then() -> None:
    announced = brokers()
    for now_s, is_to_be_asked in ((0, True), (1, False), (29.9, False), (30, True), (31, False)):
        assert announced.hear(ONE, now_s) is is_to_be_asked
    assert announced.hear(TWO, 31) is True
    assert set(announced) == {ONE, TWO}


def test_one_too_many_is_not_remembered() -> None:
    announced = brokers()
    assert announced.hear(ONE, 0)
    assert announced.hear(TWO, 0)
    assert announced.hear(THREE, 0) is None
    assert announced.hear(TWO, 30) is True
    assert set(announced) == {ONE, TWO}
    announced.clear()
    assert announced.hear(THREE, 31) is True


def test_those_that_fall_silent_are_forgotten_but_for_members() -> None:
    announced = brokers()
    announced.hear(ONE, 0)
    announced.hear(TWO, 0)
    announced.forget((), SILENCE_S)
    assert set(announced) == {ONE, TWO}
    announced.hear(ONE, 10)
    announced.forget((), SILENCE_S + 1)
    assert set(announced) == {ONE}
    announced.forget((ONE,), 2 * SILENCE_S)
    assert set(announced) == {ONE}
    announced.forget((), 2 * SILENCE_S)
    assert not set(announced)
