"""Which connections count as dead, and which are only slow or have nothing to say."""

from __future__ import annotations

from miros_rabbitmq.amqp.watchdog import Watchdog


def asked_at(now_s: float) -> Watchdog:
    watchdog = Watchdog(patience_s=12.0)
    watchdog.ask(now_s)
    return watchdog


def test_a_connection_that_does_not_answer_is_dead_when_patience_ends() -> None:
    watchdog = asked_at(100.0)
    assert not watchdog.is_dead(111.9, received=0, unsent=0)
    assert watchdog.is_dead(112.0, received=0, unsent=0)
    assert watchdog.silence_s(112.0) == 12.0


def test_nobody_is_dead_who_was_not_asked() -> None:
    watchdog = asked_at(100.0)
    watchdog.answer(101.0)
    assert not watchdog.is_waiting
    assert not watchdog.is_dead(1_000.0, received=0, unsent=0)


def test_heartbeats_of_a_broker_that_no_longer_hears_us_are_no_answer() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=tick * 8, unsent=0)
    assert watchdog.is_dead(12.5, received=40, unsent=0)


def test_a_thin_link_that_still_carries_something_is_not_dead() -> None:
    incoming, outgoing = asked_at(0.0), asked_at(0.0)
    for tick in range(1, 20):
        assert not incoming.is_dead(tick * 2.5, received=tick * 1_000, unsent=0)
        assert not outgoing.is_dead(tick * 2.5, received=0, unsent=1_000_000 - tick * 1_000)


def test_what_only_piles_up_is_no_progress() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=0, unsent=tick * 1_000)
    assert watchdog.is_dead(12.5, received=0, unsent=5_000)


def test_our_own_heartbeats_that_leave_are_no_progress() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=0, unsent=8 * (tick % 2))
    assert watchdog.is_dead(12.5, received=0, unsent=8)


def test_of_a_broker_that_blocks_us_heartbeats_are_enough_and_silence_is_not() -> None:
    watchdog = asked_at(0.0)
    watchdog.answer(0.0)
    for tick in range(1, 10):
        assert not watchdog.is_dead(tick * 5.0, received=tick * 8, unsent=99, heartbeats_do=True)
    assert not watchdog.is_dead(56.9, received=72, unsent=99, heartbeats_do=True)
    assert watchdog.is_dead(57.0, received=72, unsent=99, heartbeats_do=True)
