"""Who says what a broker has answered."""

from __future__ import annotations

from miros_rabbitmq.answers import Answers, gist
from miros_rabbitmq.exceptions import AccessRefused


def refused(what: str, host: str = "b:5672") -> AccessRefused:
    return AccessRefused(f"{host} does not let 'robot' use {what}", host)


def test_one_of_all_who_get_an_answer_says_it() -> None:
    answers = Answers()
    assert answers.claim(refused("exchange 'miros.mesh'"), "mesh")
    assert not answers.claim(refused("exchange 'miros.snoop.trace'"), "trace")
    assert answers.claim(refused("exchange 'miros.mesh'", "c:5672"), "trace")
    assert answers.claim(refused("the routing key 'of.mine'"), "trace")


def test_a_name_that_is_drawn_anew_is_no_news() -> None:
    first, second = (gist(refused(f"queue 'amq.gen-{drawn}'")) for drawn in ("aB-_1", "Cd2"))
    assert first == second
    assert gist(refused("queue 'mine'")) != first


def test_after_the_trouble_of_who_has_said_it_an_answer_is_said_again() -> None:
    answers = Answers()
    assert answers.claim(refused("it"), "mesh")
    assert not answers.forget("trace"), "it has said nothing"
    assert not answers.claim(refused("it"), "trace")
    assert answers.forget("mesh")
    assert answers.claim(refused("it"), "trace")


def test_who_poses_as_a_broker_and_answers_otherwise_each_time_fills_nothing() -> None:
    answers = Answers()
    for number in range(10_000):
        assert answers.claim(refused(f"number {number}"), "mesh")
    assert not answers.claim(refused("number 9999"), "trace")
    assert answers.claim(refused("number 0"), "trace"), "it was forgotten"


def test_what_the_own_broker_answers_during_a_start_is_left_to_the_start() -> None:
    answers = Answers()
    assert answers.claim(refused("it"), "mesh")
    answers.begin("b:5672")
    assert not answers.claim(refused("it"), "mesh")
    assert answers.claim(refused("it", "c:5672"), "mesh")
    answers.release()
    assert answers.claim(refused("it"), "start")
