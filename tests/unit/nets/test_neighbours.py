"""Neighbours at the own broker: known while they announce themselves, answered when they ask."""

from __future__ import annotations

from miros_rabbitmq.nets.neighbours import Neighbours
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.notice import (
    Notice,
    NoticeKind,
    announce_broker,
    announce_listener,
    announced_pattern,
    asks,
    is_listener,
)

ASKS, ANSWERS = announce_listener(asks=True), announce_listener(asks=False)


def test_the_announcement_of_a_neighbour_is_one_and_no_other() -> None:
    for announcement in (ASKS, ANSWERS):
        assert is_listener(announcement)
    assert asks(ASKS)
    assert not asks(ANSWERS)
    assert not is_listener(announce_broker(Address("127.0.0.2", 5672)))


def test_an_announcement_that_does_not_say_so_does_not_ask() -> None:
    for body in (b"", b"\0", b"yes", b"\0\1"):
        assert not asks(Notice(NoticeKind.LISTENER, body))


def test_nobody_is_there_before_one_was_heard_and_after_three_silences() -> None:
    neighbours = Neighbours(announce_s=30.0)
    assert not neighbours.are_there(5.0)
    neighbours.hear(ANSWERS, 5.0)
    assert neighbours.are_there(5.0)
    assert neighbours.are_there(94.9)
    assert not neighbours.are_there(95.0)
    neighbours.hear(ANSWERS, 100.0)
    assert neighbours.are_there(100.0)


def test_it_asks_while_it_knows_of_nobody() -> None:
    neighbours = Neighbours(announce_s=30.0)
    assert neighbours.announcement(0.0) == ASKS
    neighbours.hear(ANSWERS, 1.0)
    assert neighbours.announcement(2.0) == ANSWERS
    assert neighbours.announcement(200.0) == ASKS


def test_it_answers_a_question_but_not_each_of_many_at_once() -> None:
    neighbours = Neighbours(announce_s=30.0)
    assert not neighbours.hear(ANSWERS, 0.0)
    assert neighbours.hear(ASKS, 0.0)
    assert not neighbours.hear(ASKS, 0.1)
    assert neighbours.hear(ASKS, 0.3)


def test_a_neighbour_listens_if_its_pattern_concerns_what_this_node_sends() -> None:
    neighbours = Neighbours(30.0, "own.#", lambda pattern: pattern == "kitchen.*")
    neighbours.hear(announce_listener(asks=True, pattern="bath.*"), 1.0)
    assert neighbours.are_there(1.0)
    assert not neighbours.listen(1.0)
    neighbours.hear(announce_listener(asks=False, pattern="kitchen.*"), 2.0)
    assert neighbours.listen(91.9)
    assert not neighbours.listen(92.0)
    assert announced_pattern(neighbours.announcement(3.0)) == "own.#"


def test_a_neighbour_that_does_not_say_what_it_listens_to_may_listen_to_anything() -> None:
    neighbours = Neighbours(30.0, "", lambda _: False)
    for body in (b"\1", b"\0", b"", b"\0\5abc", b"\0\1\xff"):
        notice = Notice(NoticeKind.LISTENER, body)
        assert announced_pattern(notice) is None
        neighbours.hear(notice, 1.0)
        assert neighbours.listen(1.0)
