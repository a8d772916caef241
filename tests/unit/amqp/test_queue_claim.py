"""The name of a receiver's queue, and what makes the receiver take another."""

from __future__ import annotations

import re

import pytest

from miros_rabbitmq import Limits, Queue
from miros_rabbitmq.amqp.queue_claim import QueueClaim
from miros_rabbitmq.amqp.topology import mesh_queue
from miros_rabbitmq.exceptions import QueueTaken
from miros_rabbitmq.urls import Address

ADDRESS = Address("127.0.0.2", 5672)
HEARTBEAT_S = 10
PATIENCE_S = 33.0
"""Three heartbeats, and a margin."""

IN_USE = "ACCESS_REFUSED - queue '{}' in vhost '/' in exclusive use"
LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could "
    "be originally declared on another connection or the exclusive property value does not match "
    "that of the original declaration."
)
OTHER_ARGUMENTS = (
    "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue '{}' in vhost '/': received the "
    "value '60000' of type 'signedint' but current is none"
)
GONE = "NOT_FOUND - no queue '{}' in vhost '/'"


def claim_of(queue: Queue) -> QueueClaim:
    return QueueClaim(queue, ADDRESS, HEARTBEAT_S)


@pytest.fixture
def claim() -> QueueClaim:
    return claim_of(mesh_queue(Limits()))


def explain(claim: QueueClaim, code: int, text: str, now_s: float = 0.0) -> QueueTaken | None:
    return claim.explain(code, text.format(claim.name), now_s)


def in_use(claim: QueueClaim, now_s: float) -> str:
    claim.ask()
    fault = explain(claim, 403, IN_USE, now_s)
    assert fault is not None
    return str(fault)


def test_a_drawn_name_is_another_each_time_and_long_enough_not_to_be_guessed() -> None:
    names = {claim_of(mesh_queue(Limits())).name for _ in range(1_000)}
    assert len(names) == 1_000
    assert all(re.fullmatch(r"miros\.[\w-]{22}", name) for name in names)


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (404, GONE, "it was deleted"),
        (405, LOCKED, "for another connection alone"),
        (406, OTHER_ARGUMENTS, "with other arguments"),
    ],
)
def test_a_queue_that_somebody_has_taken_gets_another_name(
    claim: QueueClaim, code: int, text: str, words: str
) -> None:
    before = claim.name
    fault = explain(claim, code, text)
    assert fault is not None
    assert words in str(fault)
    assert "a new one with another name takes its place" in str(fault)
    assert fault.host == str(ADDRESS)
    assert claim.name != before
    assert before not in str(fault)
    assert claim.name not in str(fault)


def test_a_queue_in_use_keeps_its_name_until_the_broker_must_have_noticed(
    claim: QueueClaim,
) -> None:
    before = claim.name
    for now_s in (100.0, 101.0, 100.0 + PATIENCE_S - 0.1):
        assert "by the connection before" in in_use(claim, now_s)
        assert claim.name == before
    assert "somebody else has consumed from it for 33 s" in in_use(claim, 100.0 + PATIENCE_S)
    assert claim.name != before
    # With the new name everything begins anew.
    before = claim.name
    in_use(claim, 100.0 + PATIENCE_S + 1)
    assert claim.name == before


def test_the_patience_begins_anew_when_the_receiver_has_consumed_meanwhile(
    claim: QueueClaim,
) -> None:
    before = claim.name
    in_use(claim, 0.0)
    claim.ask()
    claim.succeed()
    in_use(claim, 2 * PATIENCE_S)
    assert claim.name == before


def test_the_patience_begins_anew_when_an_answer_was_lost(claim: QueueClaim) -> None:
    """The broker may have let that connection consume, and not know yet that it is gone."""
    before = claim.name
    in_use(claim, 0.0)
    claim.ask()  # and the connection breaks
    in_use(claim, 2 * PATIENCE_S)
    assert claim.name == before
    assert "somebody else" in in_use(claim, 3 * PATIENCE_S)
    assert claim.name != before


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (403, "ACCESS_REFUSED - read access to queue '{}' in vhost '/' refused for user 'user'"),
        (404, "NOT_FOUND - no exchange 'miros.mesh' in vhost '/'"),
        (404, "NOT_FOUND - home node 'a@b' of durable queue '{}' in vhost '/' is down"),
        (404, "NOT_FOUND - no queue 'another' in vhost '/'"),
        (406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'miros.mesh'"),
        (406, "PRECONDITION_FAILED - unknown delivery tag 7"),
        (506, "RESOURCE_ERROR - too many"),
    ],
)
def test_what_does_not_concern_the_name_is_left_to_the_link(
    claim: QueueClaim, code: int, text: str
) -> None:
    before = claim.name
    assert explain(claim, code, text) is None
    assert claim.name == before


def test_a_queue_that_the_user_has_named_keeps_its_name() -> None:
    claim = claim_of(Queue("orders", True, False))
    for code, text in ((404, GONE), (405, LOCKED), (406, OTHER_ARGUMENTS)):
        assert explain(claim, code, text) is None
    for now_s in (0.0, 1_000.0):
        assert "stop that program" in in_use(claim, now_s)
    assert claim.name == "orders"
    assert not claim.drawn


def test_a_queue_that_the_broker_names_has_no_name() -> None:
    assert claim_of(Queue()).name == ""
