"""Which announced brokers are remembered, and how many are probed."""

from __future__ import annotations

import random

from miros_rabbitmq.discovery.announced import AnnouncedBrokers, AnnouncementLimits
from miros_rabbitmq.urls import Address

MOST = 64
HONEST = Address("192.168.0.1")


def dead(number: int) -> Address:
    return Address(f"10.{number // 60_000}.{number // 250 % 240}.{number % 250 + 1}")


def announcer(number: int) -> bytes:
    return number.to_bytes(16, "big")


def brokers(members: set[Address] | None = None) -> AnnouncedBrokers:
    known = members or set()
    choose = random.Random(7).choice
    limits = AnnouncementLimits(MOST, 30.0, 30.0)
    return AnnouncedBrokers(limits, lambda one: one in known, choose)


def probe(announced: AnnouncedBrokers, now_s: float) -> tuple[Address, ...]:
    """Probe those that are due: only the honest one works."""
    asked = announced.take_due(now_s)
    for address in asked:
        announced.note(address, works=address == HONEST)
    return asked


def test_many_dead_hosts_keep_an_honest_one_out_for_no_longer_than_a_probe() -> None:
    for count in (MOST, 10_000):
        announced = brokers()
        for number in range(count):
            announced.hear(dead(number), 0.0, announcer(number))
        assert len(announced.addresses) == MOST
        announced.hear(HONEST, 0.0, b"honest")
        asked = probe(announced, 0.0)
        assert HONEST in (*asked, *probe(announced, 3.0))


def test_hosts_at_which_nothing_was_found_go_first() -> None:
    announced = brokers()
    for number in range(MOST):
        announced.hear(dead(number), 0.0, announcer(number))
    probe(announced, 0.0)
    announced.hear(HONEST, 1.0, b"honest")
    for number in range(MOST, 100 * MOST):
        announced.hear(dead(number), 2.0, announcer(number))
        if number % 50 == 0:
            probe(announced, 2.0 + number)
    assert HONEST in announced.addresses
    assert len(announced.addresses) == MOST


def test_one_announcer_has_one_slot() -> None:
    announced = brokers()
    for number in range(10_000):
        announced.hear(dead(number), 0.0, b"stolen robot")
    assert announced.addresses == (dead(9_999),)
    assert announced.crowded_out == 0


def test_a_broker_that_another_announces_too_stays_when_one_has_another() -> None:
    announced = brokers()
    announced.hear(HONEST, 0.0, b"a")
    announced.hear(HONEST, 0.0, b"b")
    announced.hear(dead(1), 1.0, b"a")
    assert set(announced.addresses) == {HONEST, dead(1)}
    announced.hear(dead(1), 1.0, b"b")
    assert announced.addresses == (dead(1),)


def test_a_member_never_goes() -> None:
    announced = brokers({HONEST})
    announced.hear(HONEST, 0.0, b"a")
    for number in range(10_000):
        announced.hear(dead(number), 0.0, announcer(number))
    announced.hear(dead(1), 0.0, b"a")
    assert HONEST in announced.addresses


def test_the_rate_of_probes_is_bounded_whatever_is_announced() -> None:
    announced, asked, number = brokers(), 0, 0
    for tenth in range(600):  # a minute
        for _ in range(100):
            announced.hear(dead(number), tenth / 10, announcer(number))
            number += 1
        asked += len(probe(announced, tenth / 10))
    assert MOST < asked <= 64 + 60 * 32


def test_what_is_remembered_of_announcers_is_bounded() -> None:
    announced = brokers()
    for number in range(5_000):
        announced.hear(HONEST, 0.0, announcer(number))
    assert announced.broker_of(announcer(0)) is None
    assert announced.broker_of(announcer(4_999)) == HONEST
    assert announced.has_announcer(HONEST)


def test_names_wait_while_many_are_being_looked_up() -> None:
    """A name server that keeps silent holds a thread for each name for half a minute."""
    announced = brokers()
    for number in range(MOST):
        announced.hear(Address(f"n{number}.evil.example"), 0.0, announcer(number))
    under_way = [*announced.take_due(0.0)]
    assert 0 < len(under_way) <= 32
    for second in range(1, 30):
        announced.hear(Address(f"m{second}.evil.example"), second, announcer(second))
        assert not announced.take_due(second, look_ups=len(under_way))
    announced.hear(HONEST, 30.0, b"honest")
    assert announced.take_due(30.0, look_ups=len(under_way)) == (HONEST,)
    asked = announced.take_due(31.0, look_ups=30)
    assert len(asked) == 2
    assert not {*asked} & {*under_way}
