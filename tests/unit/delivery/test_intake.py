"""The intake of a publisher takes small records while some thread is about to look."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.intake import Intake

from .records import SMALL, record

ONE, TWO = record(b"one"), record(b"two")


def test_a_new_intake_takes_nothing() -> None:
    intake = Intake()
    assert not intake.is_open
    assert not intake.put(ONE)
    assert intake.look() == []


def test_an_open_intake_takes_small_records_while_it_has_places() -> None:
    intake = Intake()
    intake.open(2)
    assert not intake.put(record(SMALL.data + b"x"))
    assert intake.put(SMALL)
    assert intake.put(ONE)
    assert intake.is_open
    assert not intake.put(TWO)
    assert intake.look() == [SMALL, ONE]
    assert not intake.is_open
    assert not intake.put(TWO)
    intake.open(3)
    assert intake.put(TWO)
    intake.forget([SMALL, ONE])
    assert intake.look() == [TWO]


@pytest.mark.parametrize("places", [0, -1, -100])
def test_no_places_or_fewer_means_closed(places: int) -> None:
    intake = Intake()
    intake.open(places)
    assert not intake.is_open
    assert not intake.put(ONE)


def test_records_stay_in_the_intake_when_it_is_closed() -> None:
    intake = Intake()
    intake.open(1)
    intake.put(ONE)
    intake.close()
    assert not intake.is_open
    assert intake.look() == [ONE]
