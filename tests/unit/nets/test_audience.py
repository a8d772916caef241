"""Whether anybody listens: said after five seconds, once, and taken back when somebody does."""

from __future__ import annotations

import logging

import pytest

from miros_rabbitmq.nets.audience import UNHEARD_S, Audience, Taken
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address

OWN, OTHER = Address("127.0.0.2", 5672), Address("127.0.0.3", 5672)


class Sending:
    """An audience, and what it has said."""

    def __init__(self) -> None:
        self.told: list[DeliveryProblem] = []
        self.audience = Audience("lonely", "a.key", self.told.append)

    def look(
        self,
        now_s: float,
        own: tuple[int, int],
        other: tuple[int, int] | None = None,
        *,
        is_known: bool = True,
        is_expected: bool = True,
        has_listener: bool = False,
    ) -> None:
        brokers = {OWN: Taken(True, *own)}
        if other is not None:
            # The own one is the last, as in a network.
            brokers = {OTHER: Taken(is_known, *other), **brokers}
        self.audience.look(now_s, brokers, is_expected=is_expected, has_listener=has_listener)

    @property
    def said(self) -> list[bool]:
        """Of each report whether it is over."""
        assert {one.kind for one in self.told} <= {ProblemKind.UNHEARD}
        return [one.is_over for one in self.told]


def test_that_nobody_listens_is_said_once_after_five_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sending = Sending()
    sending.look(0.0, (1, 1))
    sending.look(UNHEARD_S - 0.1, (2, 2))
    assert not sending.said
    assert sending.audience.is_in_doubt
    for n in range(20):
        sending.look(UNHEARD_S + n, (3 + n, 3 + n))
    assert sending.said == [False]
    assert "'a.key': 3 events reached no chart" in sending.told[0].text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_it_is_said_of_a_single_event_too_and_not_without_any() -> None:
    sending = Sending()
    for now_s in range(20):
        sending.look(now_s, (0, 0))
    assert not sending.said
    sending.look(20.0, (1, 1))
    sending.look(25.0, (1, 1))
    assert "1 event reached no chart" in sending.told[0].text


def test_one_listener_at_one_broker_is_enough() -> None:
    sending = Sending()
    for n in range(20):
        sending.look(n, (n, n), (n, 0))
    assert not sending.said


def test_it_is_over_when_an_event_is_heard_or_a_listener_announces_itself() -> None:
    sending = Sending()
    for n in range(1, 8):
        sending.look(n, (n, n))
    sending.look(8.0, (8, 7))
    assert sending.said == [False, True]
    for n in range(9, 18):
        sending.look(n, (n, n - 1))
    assert sending.said == [False, True, False]
    sending.audience.hear_listener()
    sending.audience.hear_listener()
    assert sending.said == [False, True, False, True]


def test_nothing_is_said_while_a_broker_is_away_as_somebody_may_listen_there() -> None:
    sending = Sending()
    for n in range(1, 20):
        sending.look(n, (n, n), (0, 0), is_known=False)
    assert not sending.said
    sending.look(19 + UNHEARD_S, (24, 24), (24, 24))
    assert sending.said == [False]


def test_a_broker_that_comes_back_has_time_to_take_what_waits_for_it() -> None:
    sending = Sending()
    for n in range(10):
        sending.look(n, (n, n), (0, 0), is_known=False)
    sending.look(10, (10, 10), (0, 0))
    sending.look(9 + UNHEARD_S - 0.1, (12, 12), (0, 0))
    assert not sending.said
    sending.look(9 + UNHEARD_S, (13, 13), (10, 0))  # somebody has heard them there
    sending.look(20 + UNHEARD_S, (13, 13), (10, 0))
    assert not sending.said


def test_nothing_is_said_where_nobody_is_expected() -> None:
    sending = Sending()
    for n in range(1, 20):
        sending.look(n, (n, n), is_expected=False)
    assert not sending.said


def test_an_event_that_is_returned_before_it_is_confirmed_was_not_heard() -> None:
    sending = Sending()
    for n in range(1, 30):
        sending.look(n, (n, n + 1))
        sending.look(n + 0.5, (n + 1, n + 1))
    assert sending.said == [False]


def test_nothing_is_said_after_events_that_were_heard_elsewhere() -> None:
    sending = Sending()
    for n in range(20):
        sending.look(n / 2, (n, n), (n, 0))
    for n in range(20, 60):
        sending.look(n / 2, (20, 20), (19, 0))  # the own broker was the last to confirm
    assert not sending.said
    sending.look(30.0, (21, 21), (20, 1))
    sending.look(30.0 + UNHEARD_S, (21, 21), (20, 1))
    assert "1 event reached no chart" in sending.told[0].text


def test_what_was_sent_while_a_neighbour_listened_counts_as_heard() -> None:
    sending = Sending()
    for n in range(20):
        sending.look(n, (n, n), has_listener=True)
    for n in range(20, 40):
        sending.look(n, (19, 19))
    assert not sending.said
