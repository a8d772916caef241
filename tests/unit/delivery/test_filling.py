"""When a queue at a broker counts as nearly full."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.filling import Filling


def test_it_is_nearly_full_from_three_quarters_on_until_it_is_half_empty() -> None:
    filling = Filling(1_000)
    told = [
        (messages, filling.note(messages, 10.0, now_s), filling.is_near)
        for now_s, messages in enumerate([10, 75, 76, 90, 51, 50, 60, 76, 0], start=1)
    ]
    assert told == [
        (10, False, False),
        (75, False, False),
        (76, True, True),
        (90, False, True),
        (51, False, True),
        (50, True, False),
        (60, False, False),
        (76, True, True),
        (0, True, False),
    ]


def test_it_knows_how_fast_it_grows_and_when_it_will_be_full() -> None:
    filling = Filling(1_000)
    filling.note(20, 10.0, 5.0)
    assert filling.full_in_s is None
    filling.note(60, 10.0, 7.0)
    assert filling.grows_by == 20.0
    assert filling.bytes == 600
    assert filling.full_in_s == pytest.approx(2.0)
    filling.note(59, 10.0, 8.0)
    assert filling.full_in_s is None


def test_without_a_size_it_says_nothing() -> None:
    filling = Filling(1_000)
    assert not filling.note(1_000_000, 0.0, 1.0)
    assert not filling.note(2_000_000, 0.0, 2.0)
    assert filling.full_in_s is None


def test_what_waits_is_never_said_to_be_more_than_the_limit() -> None:
    """The messages that came out last were larger than those that are in it."""
    filling = Filling(1_000)
    filling.note(100, 5.0, now_s=1.0)
    filling.note(200, 50.0, now_s=2.0)
    assert filling.bytes == 1_000
    assert filling.is_near
    assert filling.full_in_s == 0.0
