"""When a broker is told the last numbers, and which; and what was done lately."""

from __future__ import annotations

from miros_rabbitmq.nets.lately import Lately
from miros_rabbitmq.nets.tails import RecentKeys, Tail


def test_a_tail_is_due_when_nothing_was_sent_between_two_looks() -> None:
    tail = Tail(least_s=5.0)
    assert [tail.is_due(sent, 0.0) for sent in (0, 3, 9, 9)] == [False, False, False, True]
    tail.note_told(9, 0.0)
    assert not tail.is_due(9, 100.0)


def test_a_sender_that_falls_silent_again_and_again_tells_it_now_and_then() -> None:
    tail = Tail(least_s=5.0)
    told = 0
    for second in range(1_000):
        if tail.is_due(1 + second // 3, second):
            tail.note_told(1 + second // 3, second)
            told += 1
    assert 100 < told <= 200


def test_what_is_asked_for_is_due_also_while_events_are_sent() -> None:
    tail = Tail(least_s=5.0)
    tail.ask()
    assert not tail.is_due(0, 0.0), "there is nothing to tell"
    assert tail.is_due(7, 0.0)
    assert tail.is_due(8, 0.0), "until it is told"
    tail.note_told(8, 0.0)
    assert not tail.is_due(9, 0.0)


def test_what_was_told_is_told_again_less_and_less_often_until_there_is_news() -> None:
    tail = Tail(least_s=5.0)

    def told_at(sent: int) -> list[int]:
        times = []
        for time_s in range(20):
            tail.ask_again(sent)
            if tail.is_due(sent, float(time_s)):
                tail.note_told(sent, float(time_s))
                times.append(time_s)
        return times

    assert told_at(0) == []
    assert told_at(7) == [0, 1, 2, 4, 8, 16]
    assert told_at(8) == [0, 1, 2, 4, 8, 16]


def test_the_64_routing_keys_used_most_recently_are_chosen() -> None:
    keys = RecentKeys()
    numbers = {f"key.{n}": 1 for n in range(1_000)}
    assert len(keys.choose(numbers)) == 64
    numbers = {**numbers, "key.5": 2}
    assert keys.choose(numbers)[-1] == ("key.5", 2)
    numbers = {**numbers, "key.7": 9}
    assert keys.choose(numbers)[-2:] == [("key.5", 2), ("key.7", 9)]
    assert len(keys.choose(numbers)) == 64
    assert keys.choose({}) == [], "of another start nothing is told"


def test_what_was_done_lately_is_not_done_again_too_soon() -> None:
    lately = Lately(60.0, most=2)
    assert [lately.may(what, 0.0) for what in ("a", "a", "b", "c")] == [True, False, True, False]
    assert not lately.may("a", 59.9)
    assert [lately.may(what, 60.0) for what in ("c", "a", "b")] == [True, True, False]
