"""The intake of a publisher takes small tokens while some thread is about to look."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.intake import SMALL_TOKEN, Intake

SMALL = b"x" * SMALL_TOKEN


def test_a_new_intake_takes_nothing() -> None:
    intake = Intake()
    assert not intake.is_open
    assert not intake.put(b"token")
    assert intake.look() == []


def test_an_open_intake_takes_small_tokens_while_it_has_places() -> None:
    intake = Intake()
    intake.open(2)
    assert not intake.put(SMALL + b"x")
    assert intake.put(SMALL)
    assert intake.put(b"second")
    assert intake.is_open
    assert not intake.put(b"third")
    assert intake.look() == [SMALL, b"second"]
    assert not intake.is_open
    assert not intake.put(b"fourth")
    intake.open(3)
    assert intake.put(b"fifth")
    intake.forget([SMALL, b"second"])
    assert intake.look() == [b"fifth"]


@pytest.mark.parametrize("places", [0, -1, -100])
def test_no_places_or_fewer_means_closed(places: int) -> None:
    intake = Intake()
    intake.open(places)
    assert not intake.is_open
    assert not intake.put(b"token")


def test_tokens_stay_in_the_intake_when_it_is_closed() -> None:
    intake = Intake()
    intake.open(1)
    intake.put(b"token")
    intake.close()
    assert not intake.is_open
    assert intake.look() == [b"token"]
