"""Whether the own broker routes as it was told: said once, and never for a passing loss."""

from __future__ import annotations

import logging

import pytest

from miros_rabbitmq.nets.echo import Echo
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address

OWN = Address("127.0.0.2", 5672)
PATIENCE_S = 20.0


class Sending:
    """A chart that transmits once a look, and what it was told."""

    def __init__(self) -> None:
        self.told: list[DeliveryProblem] = []
        self.echo = Echo("lonely", "miros.mesh", "a b", PATIENCE_S, self.told.append)
        self.now_s = 0.0
        self.confirmed = self.returned = 0

    def look(self, looks: int = 1, *, returned: bool, queue: str = "q") -> None:
        for _ in range(looks):
            self.now_s += 0.5
            self.confirmed += 1
            self.returned += returned
            self.echo.look(self.now_s, OWN, queue, self.confirmed, self.returned)


def test_a_broker_that_returns_everything_is_told_once_with_what_mends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sending = Sending()
    sending.look(1 + int(2 * PATIENCE_S), returned=True)
    assert not sending.told
    sending.look(100, returned=True)
    (problem,) = sending.told
    assert problem.kind is ProblemKind.UNHEARD
    assert (problem.subject, problem.network) == ("lonely", "miros.mesh")
    for part in (
        "rabbitmqctl list_exchanges -p 'a b' name type",
        "rabbitmqctl eval 'rabbit_exchange:delete(",
        "; rabbitmqctl import_definitions /etc/rabbitmq/miros.json",
    ):
        assert part in problem.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_events_that_are_heard_in_between_begin_the_wait_anew() -> None:
    sending = Sending()
    for _ in range(10):
        sending.look(30, returned=True)
        sending.look(1, returned=False)
    assert not sending.told


def test_a_queue_that_is_not_consumed_from_or_is_another_begins_the_wait_anew() -> None:
    for other in ("", "another"):
        sending = Sending()
        for _ in range(10):
            sending.look(30, returned=True)
            sending.look(1, returned=True, queue=other)
        assert not sending.told


def test_a_message_that_is_returned_a_moment_before_it_is_confirmed_was_not_heard() -> None:
    sending = Sending()
    for _ in range(60):
        sending.now_s += 0.5
        sending.returned += 1
        sending.echo.look(sending.now_s, OWN, "q", sending.confirmed, sending.returned)
        sending.confirmed += 1
        sending.now_s += 0.5
        sending.echo.look(sending.now_s, OWN, "q", sending.confirmed, sending.returned)
    assert len(sending.told) == 1


def test_a_broker_that_returns_nothing_more_is_not_told() -> None:
    sending = Sending()
    sending.look(3, returned=True)
    for _ in range(200):
        sending.now_s += 0.5
        sending.echo.look(sending.now_s, OWN, "q", sending.confirmed, sending.returned)
    assert not sending.told
