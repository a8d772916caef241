"""The notices of a node on a network, and how those of others decide about its haste."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.sender import Sender
from miros_rabbitmq.nets.notices import Notices
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, Purpose
from miros_rabbitmq.wire.message import join
from miros_rabbitmq.wire.notice import LISTENER_KEY, Notice, announce_broker, announce_listener
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import unpack
from miros_rabbitmq.wire.sealer import Sealer

BROKER = announce_broker(Address("127.0.0.2", 5672))
TX_KEY = "mesh.key"
ASKS, ANSWERS = announce_listener(asks=True), announce_listener(asks=False)


class FakeSender:
    """Stands in for a sender, and calls back at once where a reactor would do so soon."""

    def __init__(self) -> None:
        self.link = self
        self.is_connected = True
        self.patient = True
        self.wakes = 0
        self.told: list[tuple[str, bytes]] = []
        self.later: list[Callable[[], object]] = []

    def wake(self) -> None:
        self.wakes += 1

    def call_soon(self, callback: Callable[[], object]) -> None:
        callback()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> None:
        assert delay_s == 30.0
        self.later.append(callback)

    def publish_aside(self, body: bytes, routing_key: str, expires_s: float) -> None:
        assert expires_s == 30.0
        self.told.append((routing_key, body))


class Node:
    """The notices of a node, and what is around them."""

    def __init__(self, notice: Notice | None = None) -> None:
        codec = Codec(Fernet.generate_key())
        self._sealer = Sealer(codec, MESH, "this")
        self._opener = Opener(codec, MESH, most_records=1)
        self.is_forked = False
        self.own, self.other = FakeSender(), FakeSender()
        self.noticed: list[Notice] = []
        self.notices = Notices(self._seal, TX_KEY, 30.0, lambda: notice, self.noticed.append)
        self.notices.own_sender(cast("Sender", self.own))

    def _seal(self, notice: Notice, routing_key: str) -> bytes | None:
        if self.is_forked:
            return None
        draft = self._sealer.seal(notice.kind, notice.body, routing_key, Purpose.NOTICES)
        record = self._sealer.commit(draft)
        assert record is not None
        return join(record.heading.prefix, [record.data])

    def connect(self, sender: FakeSender) -> None:
        self.notices.on_connected(cast("Sender", sender))

    def said(self, sender: FakeSender) -> list[tuple[str, Notice]]:
        """The notices that a broker got, and their routing keys."""
        said = []
        for key, message in sender.told:
            header, (plain,) = self._opener.open(message, key)
            assert header.purpose == Purpose.NOTICES
            content = unpack(plain)
            assert content.sender == "this"
            said.append((key, Notice(content.kind, content.body)))
        return said


def test_the_brokers_of_others_get_the_owners_notice() -> None:
    node = Node(BROKER)
    node.connect(node.other)
    assert node.said(node.other) == [(TX_KEY, BROKER)]
    assert node.said(node.own) == []


def test_the_notice_is_repeated_while_a_broker_is_connected() -> None:
    node = Node(BROKER)
    node.connect(node.other)
    for _ in range(3):
        node.other.later.pop()()
    assert len(node.other.told) == 4
    assert len(node.other.later) == 1, "one timer, however often"
    node.other.is_connected = False
    node.other.later.pop()()
    assert len(node.other.told) == 4
    assert not node.other.later, "it gets a notice when it is connected again"


def test_a_node_without_a_notice_sends_none() -> None:
    node = Node(None)
    node.connect(node.other)
    assert node.said(node.other) == []


def test_neighbours_get_no_notice_before_their_answers_can_be_heard() -> None:
    node = Node()
    node.connect(node.own)
    node.notices.on_hearing(is_hearing=False)
    assert node.own.told == []
    node.notices.on_hearing(is_hearing=True)
    assert node.said(node.own) == [(LISTENER_KEY, ASKS)]


def test_haste_begins_with_the_first_neighbour_who_is_answered_if_it_asks() -> None:
    node = Node()
    own = node.own
    node.notices.on_hearing(is_hearing=True)
    own.told.clear()
    assert own.patient
    node.notices.take(ANSWERS)
    assert (own.patient, own.wakes, own.told) == (False, 1, [])
    node.notices.take(ASKS)
    assert own.wakes == 2
    assert node.said(own) == [(LISTENER_KEY, ANSWERS)]
    assert not own.patient
    assert not node.noticed


def test_the_notices_of_other_nodes_are_handed_on() -> None:
    node = Node()
    node.notices.take(BROKER)
    assert node.noticed == [BROKER]
    assert node.own.patient


def test_a_child_that_was_forked_meanwhile_sends_no_notice() -> None:
    node = Node(BROKER)
    node.is_forked = True
    node.connect(node.other)
    node.notices.on_hearing(is_hearing=True)
    assert node.other.told == node.own.told == []


def test_a_kind_of_notice_that_is_not_known_is_ignored_here_and_handed_on() -> None:
    """A newer version may send it; what the owner does with it is no matter of neighbours."""
    node = Node()
    node.notices.on_hearing(is_hearing=True)
    node.own.told.clear()
    newer = Notice(99, b"\1")
    node.notices.take(newer)
    assert node.noticed == [newer]
    assert (node.own.patient, node.own.wakes, node.own.told) == (True, 0, [])
