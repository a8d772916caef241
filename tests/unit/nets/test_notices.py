"""What a node tells others on a network, and how much haste it is in by what it hears."""

from __future__ import annotations

from typing import Any, cast

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.publisher import SimplePikaTopicPublisher
from miros_rabbitmq.nets.notices import Notices
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.announcement import announce_broker, announce_listener, is_announcement
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, NOTICE, Envelope, Identity

BROKER = announce_broker(Address("127.0.0.2", 5672))
ASKS, ANSWERS = announce_listener(asks=True), announce_listener(asks=False)


class Own:
    """What stands in for the publisher to the own broker."""

    def __init__(self) -> None:
        self.patient = True
        self.told: list[str] = []

    def wake(self) -> None:
        self.told.append("wake")

    def send_notice(self) -> None:
        self.told.append("notice")


class Node:
    """The notices of a node, and what is around them."""

    def __init__(self, body: Any = None) -> None:
        self.codec = Codec(MESH, [Fernet.generate_key()], check_notice=is_announcement)
        self.own: Own | None = Own()
        self.hears = True
        self.noticed: list[Any] = []
        self.notices = Notices(
            self.codec,
            Identity.new("this"),
            30.0,
            own_publisher=lambda: cast("SimplePikaTopicPublisher | None", self.own),
            is_hearing=lambda: self.hears,
            body=lambda: body,
            on_notice=lambda envelope: self.noticed.append(envelope.body),
        )

    def said(self, notice: bytes | None) -> Any:
        """The body of a notice that was made."""
        if notice is None:
            return None
        envelope = self.codec.decode(notice)
        assert (envelope.sender, envelope.sequence) == ("this", NOTICE)
        return envelope.body

    def hear(self, body: Any) -> None:
        self.notices.take(Envelope(MESH, "another", 1, NOTICE, body))


@pytest.mark.parametrize("body", [None, BROKER])
def test_the_brokers_of_others_are_told_what_the_owner_has_to_tell(body: Any) -> None:
    node = Node(body)
    assert node.said(node.notices.for_others()) == body


def test_neighbours_are_told_nothing_before_their_answers_can_be_heard() -> None:
    node = Node()
    node.hears = False
    assert node.notices.for_neighbours() is None
    node.notices.tell_when_hearing()
    assert node.own is not None
    assert node.own.told == []
    node.hears = True
    node.notices.tell_when_hearing()
    assert node.own.told == ["notice"]
    assert node.said(node.notices.for_neighbours()) == ASKS


def test_haste_begins_with_the_first_neighbour_who_is_answered_if_it_asks() -> None:
    node = Node()
    own = node.own
    assert own is not None
    node.notices.for_neighbours()
    assert own.patient
    node.hear(ANSWERS)
    assert (own.patient, own.told) == (False, ["wake"])
    node.hear(ASKS)
    assert own.told == ["wake", "wake", "notice"]
    assert node.said(node.notices.for_neighbours()) == ANSWERS
    assert not own.patient
    assert not node.noticed


def test_the_notices_of_other_nodes_are_handed_on() -> None:
    node = Node()
    node.hear(BROKER)
    assert node.noticed == [BROKER]
    assert node.own is not None
    assert node.own.patient


def test_without_a_publisher_it_is_only_remembered_who_was_heard() -> None:
    node = Node()
    node.own = None
    node.hear(ASKS)
    node.notices.tell_when_hearing()
    assert node.said(node.notices.for_neighbours()) == ANSWERS
