"""How one node follows what its subscriber is shown."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from miros_rabbitmq.discovery.roster import PeersChanged
from miros_rabbitmq.discovery.subscriber import Own, Subscriber
from miros_rabbitmq.urls import Address
from tests.helpers import scaled

from .nodes import ONE, OWN, TWO, Node
from .test_shared_lookout import SEARCH

THREE = Address("10.0.0.4")


class Following:
    """A node, its subscriber, and the changes that were told."""

    def __init__(self) -> None:
        self.node = Node()
        self.changes: list[PeersChanged] = []
        self.subscriber = Subscriber("chart", SEARCH, OWN, self.node, self.changes.append)

    def follow(
        self,
        *members: Address,
        own: Own = Own(OWN),  # noqa: B008 - a value
        moves: tuple[tuple[Address, Address], ...] = (),
    ) -> None:
        self.subscriber.show(dict.fromkeys(members, "named"), own, moves)
        assert self.subscriber.wait_until_followed(scaled(20))


@pytest.fixture
def following() -> Iterator[Following]:
    following = Following()
    yield following
    following.subscriber.stop(scaled(20))


def test_a_node_follows_the_difference(following: Following) -> None:
    following.follow(ONE, TWO)
    following.follow(ONE, TWO)
    following.follow(TWO, THREE)
    assert following.node.members == [TWO, THREE]
    assert following.changes == [
        PeersChanged(added=(ONE, TWO)),
        PeersChanged(added=(THREE,), removed=(ONE,)),
    ]


def test_what_waits_for_a_broker_that_moved_goes_along(following: Following) -> None:
    following.follow(ONE)
    following.follow(TWO, moves=((ONE, TWO),))
    assert following.node.moves == [(ONE, TWO)]
    assert following.node.members == [ONE], "it is told of nothing else"
    assert following.changes[1:] == [PeersChanged(added=(TWO,), removed=(ONE,))]
    following.follow(TWO)
    assert len(following.changes) == 2


def test_a_move_of_a_broker_that_the_node_does_not_know_is_one_that_joins(
    following: Following,
) -> None:
    following.follow(TWO, moves=((ONE, TWO),))
    assert following.node.moves == []
    assert following.node.members == [TWO]
    assert following.changes == [PeersChanged(added=(TWO,))]


def test_an_own_broker_that_was_a_member_is_not_given_up(following: Following) -> None:
    following.follow(ONE, TWO)
    following.follow(TWO, own=Own(ONE, is_gone=True))
    assert following.node.own == [(ONE, True)]
    assert following.node.members == [ONE, TWO], "the node itself has made one of the two"
    assert following.changes == [PeersChanged(added=(ONE, TWO))]


def test_a_node_that_cannot_follow_a_change_follows_the_next(
    following: Following, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(following.node, "added", lambda _: 1 / 0)
        following.follow(ONE)
    following.follow(ONE, TWO)
    assert following.node.members == [TWO]
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert said == ["miros discovery of chart: the node could not follow a change"]


def test_of_many_brokers_the_log_says_how_many(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.follow(*(Address(f"10.0.1.{number}") for number in range(20)))
    following.follow()
    assert caplog.messages == [
        "miros discovery of chart: added 20 brokers",
        "miros discovery of chart: gave up 20 brokers, and 140 events",
    ]


def test_after_its_stop_a_node_follows_nothing_and_has_no_thread(following: Following) -> None:
    before = threading.active_count()
    assert following.subscriber.stop(scaled(20))
    following.subscriber.show({ONE: "named"}, Own(TWO))
    assert threading.active_count() == before
    assert (following.node.members, following.node.own) == ([], [])
