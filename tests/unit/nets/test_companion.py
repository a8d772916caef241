"""When a node's announcement goes along with its events."""

from __future__ import annotations

from miros_rabbitmq.nets.companion import LEAST_S, Companion


def test_it_goes_with_the_first_event_and_not_without_one() -> None:
    companion = Companion()
    assert not companion.is_due(0, 0.0)
    assert companion.is_due(1, 0.0)
    companion.note_told(1, 0.0)
    assert not companion.is_due(1, 1_000.0)


def test_it_goes_once_a_second_at_most_and_after_the_last_event_too() -> None:
    companion = Companion()
    told_s = []
    for look in range(21):  # events for five seconds, looks for ten
        now_s, sent = look / 2, min(100, 10 * look)
        if companion.is_due(sent, now_s):
            companion.note_told(sent, now_s)
            told_s.append(now_s)
    assert told_s == [0.5 + LEAST_S * times for times in range(6)]


def test_events_within_a_second_of_an_announcement_are_accompanied_by_the_next() -> None:
    companion = Companion()
    companion.note_told(0, 0.0)
    assert not companion.is_due(5, 0.9)
    assert companion.is_due(5, 1.0)
