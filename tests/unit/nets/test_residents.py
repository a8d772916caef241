"""Charts of one process at one broker know of each other."""

from __future__ import annotations

import gc
from collections.abc import Hashable

from miros_rabbitmq.nets.residents import Residents


class One:
    """Stands in for a chart that listens."""

    def __init__(self, place: Hashable, rx_key: str = "#") -> None:
        self.place = place
        self.rx_key = rx_key
        self.noted = 0

    def note_neighbour(self) -> None:
        self.noted += 1

    def note_told(self) -> None:
        raise AssertionError


def test_those_at_one_place_know_of_each_other_from_their_coming_until_they_go() -> None:
    residents = Residents()
    a, b, elsewhere = One("here"), One("here"), One("there")
    for one in (a, elsewhere, b):
        residents.enter(one)
    assert (a.noted, b.noted, elsewhere.noted) == (1, 0, 0)
    assert residents.beside(a) == [b]
    assert residents.beside(b) == [a]
    assert residents.beside(elsewhere) == []
    residents.enter(b)
    assert a.noted == 1, "it was there"
    residents.leave(b)
    residents.leave(b)
    assert residents.beside(a) == []


def test_one_that_changes_its_place_is_a_neighbour_there() -> None:
    residents = Residents()
    a, b = One("here"), One("there")
    residents.enter(a)
    residents.enter(b)
    b.place = "here"
    assert residents.beside(a) == [b]


def test_one_that_is_forgotten_leaves_no_trace() -> None:
    residents = Residents()
    a, b = One("here"), One("here")
    residents.enter(a)
    residents.enter(b)
    del b
    gc.collect()
    assert residents.beside(a) == []
    assert len(residents._all) == 1


def test_a_forked_child_has_none_of_its_parents() -> None:
    residents = Residents()
    a, b = One("here"), One("here")
    residents.enter(a)
    residents.disown()
    residents.enter(b)
    assert residents.beside(b) == []


def test_the_first_who_listens_to_a_pattern_at_a_place_is_known() -> None:
    residents = Residents()
    elsewhere = One("there")
    first, second, other = One("here"), One("here"), One("here", "other.key")
    for one in (elsewhere, first, second, other):
        residents.enter(one)
    firsts = [residents.is_first_of_its_key(one) for one in (elsewhere, first, second, other)]
    assert firsts == [True, True, False, True]
    residents.leave(first)
    assert residents.is_first_of_its_key(second)
