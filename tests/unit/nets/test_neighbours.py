"""Neighbours at the own broker: known while they announce themselves; one of them answers."""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from miros_rabbitmq.nets.neighbours import ANSWER_S, ANSWERED_S, Neighbours, answer_delay_s
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.notice import (
    Notice,
    NoticeKind,
    announce_broker,
    announce_listener,
    announced_pattern,
    asked_key,
    asks,
    is_listener,
)

ASKS, ANSWERS = announce_listener(asks=True), announce_listener(asks=False)


def make(
    key: str = "own.key", pattern: str = "#", chance: Callable[[], float] = lambda: 0.5
) -> Neighbours:
    return Neighbours(30.0, key, pattern, chance)


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
    neighbours = make()
    assert not neighbours.are_there(5.0)
    neighbours.hear(ANSWERS, 5.0)
    assert neighbours.are_there(5.0)
    assert neighbours.are_there(94.9)
    assert not neighbours.are_there(95.0)
    neighbours.hear(ANSWERS, 100.0)
    assert neighbours.are_there(100.0)


def test_a_chart_asks_while_no_neighbour_is_known_and_before_it_forgets_the_last_one() -> None:
    neighbours = make()
    assert neighbours.has_to_ask(0.0)
    neighbours.hear(ANSWERS, 1.0)
    assert not neighbours.has_to_ask(60.9)
    assert neighbours.has_to_ask(61.0)
    assert neighbours.are_there(61.0)


def test_nothing_need_be_said_soon_after_another_has_announced_itself() -> None:
    neighbours = make()
    assert not neighbours.are_told_lately(0.0)
    neighbours.hear(ANSWERS, 1.0)
    assert neighbours.are_told_lately(27.9)
    assert not neighbours.are_told_lately(28.0)
    neighbours.note_told(30.0)
    assert neighbours.are_told_lately(56.9)
    assert not neighbours.are_told_lately(57.0)


def test_a_question_names_the_key_of_who_asks_and_an_answer_does_not() -> None:
    neighbours = make("own.key", "kitchen.*")
    question, answer = (neighbours.announcement(asks=is_asked) for is_asked in (True, False))
    assert (asks(question), announced_pattern(question), asked_key(question)) == (
        True,
        "kitchen.*",
        "own.key",
    )
    assert (asks(answer), announced_pattern(answer), asked_key(answer)) == (False, "kitchen.*", "")


def test_those_who_listen_to_what_is_asked_for_answer_first() -> None:
    question = announce_listener(asks=True, pattern="x", key="kitchen.fan")
    last, first = (make(pattern=one).hear(question, 0.0) for one in ("bath.*", "kitchen.*"))
    assert first is not None
    assert last == pytest.approx(first + ANSWER_S)
    assert 0 < first < ANSWER_S


@pytest.mark.parametrize(
    ("own", "other", "is_answered"),
    [
        ("kitchen.*", "kitchen.#", True),
        ("kitchen.*", "", True),
        ("kitchen.*", "bath.*", False),  # it does not say what this one has to say
        ("bath.*", "garden.*", True),  # this one has no more to say
    ],
)
def test_nobody_answers_what_another_has_answered(own: str, other: str, is_answered: bool) -> None:
    neighbours = make(pattern=own)
    neighbours.hear(announce_listener(asks=True, key="kitchen.fan"), 0.0)
    assert neighbours.hear(announce_listener(asks=False, pattern=other), 0.1) is None
    assert neighbours.take_questions() is not is_answered
    assert not neighbours.take_questions(), "it is answered once"


def test_questions_that_others_make_up_take_no_memory() -> None:
    neighbours = make(pattern="#")
    for number in range(10_000):
        neighbours.hear(announce_listener(asks=True, pattern="none", key=f"key.{number}"), 0.0)
    assert len(neighbours._questions) <= 16


def test_expensive_patterns_and_keys_cost_little() -> None:
    """Of 190 KB, 512 announcements kept a receiver busy for 2.2 s."""
    neighbours = make("a." * 120 + "z", "#")
    steps = 0

    def count(_: object, event: str, __: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    def question(number: int) -> Notice:
        pattern, key = "#.*." * 50 + f"x{number}", "a." * 100 + f"k{number}"
        return announce_listener(asks=True, pattern=pattern, key=key)

    asked = [question(number) for number in range(200)]
    for each in asked[:100]:
        neighbours.hear(each, 0.0)
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for each in asked[100:]:
            neighbours.hear(each, 0.0)
    finally:
        sys.settrace(before)
    assert steps / 100 < 20_000, "lines of Python for each"


@pytest.mark.parametrize("count", [1, 10, 300])
def test_a_question_gets_one_answer_or_a_few_however_many_are_asked(count: int) -> None:
    """Each hears what another says 10 ms later."""
    chance = random.Random(5)
    answers, latest_s = [], 0.0
    for _ in range(10):
        all_asked = [make(chance=chance.random) for _ in range(count)]
        question = announce_listener(asks=True, pattern="none", key="a.key")
        ticks = itertools.count()
        due = [(one.hear(question, 0.0), next(ticks), one) for one in all_asked]
        heapq.heapify(due)
        said_s: list[float] = []
        heard = 0
        while due:
            at_s, _, one = heapq.heappop(due)
            assert at_s is not None
            while heard < len(said_s) and said_s[heard] + 0.01 <= at_s:
                heard += 1
                for other in all_asked:
                    other.hear(one.announcement(asks=False), at_s)
            if one.take_questions():
                said_s.append(at_s)
        answers.append(len(said_s))
        latest_s = max(latest_s, said_s[0])
    assert 1 <= sum(answers) / len(answers) < 2
    assert latest_s <= ANSWER_S


def test_an_answer_comes_within_its_time() -> None:
    assert answer_delay_s(0.0) == 0
    assert answer_delay_s(1.0) == pytest.approx(ANSWER_S)
    assert 2 * ANSWER_S < ANSWERED_S


def test_a_neighbour_listens_if_its_pattern_matches_what_this_node_sends() -> None:
    neighbours = make("kitchen.fan")
    neighbours.hear(announce_listener(asks=True, pattern="bath.*"), 1.0)
    assert neighbours.are_there(1.0)
    assert not neighbours.listen(1.0)
    neighbours.hear(announce_listener(asks=False, pattern="kitchen.*"), 2.0)
    assert neighbours.listen(91.9)
    assert not neighbours.listen(92.0)


def test_a_neighbour_that_does_not_say_what_it_listens_to_may_listen_to_anything() -> None:
    for notice in (ANSWERS, Notice(NoticeKind.LISTENER, b"\0\5cut")):
        neighbours = make()
        neighbours.hear(notice, 1.0)
        assert neighbours.listen(1.0)


def test_who_listens_is_asked_less_and_less_often_until_somebody_does() -> None:
    neighbours = make()
    asked_s = [at for at in range(200) if neighbours.may_ask_for_listener(float(at))]
    assert asked_s[:6] == [0, 2, 6, 14, 30, 60]
    neighbours.hear(ANSWERS, 200.0)
    assert neighbours.may_ask_for_listener(200.0)
    assert neighbours.may_ask_for_listener(202.0)
