"""Charts of one process at one broker know of each other."""

from __future__ import annotations

import gc
from collections.abc import Hashable

from miros_rabbitmq.nets.residents import Residents


class One:
    """Stands in for a chart that listens."""

    def __init__(self, place: Hashable, rx_key: str = "#", name: str = "") -> None:
        self.name = name or str(id(self))
        self.place = place
        self.announced_at: Hashable = None
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


def test_one_that_has_announced_itself_speaks_for_those_who_listen_to_the_same_there() -> None:
    residents = Residents()
    first, second, _, elsewhere = all_of_them = (
        One("here"),
        One("here"),
        One("here", "other.key"),
        One("there"),
    )
    for one in all_of_them:
        residents.enter(one)
    assert not any(map(residents.speak_for, all_of_them))
    first.announced_at = "here"
    assert [one for one in all_of_them if residents.speak_for(one)] == [second]
    elsewhere.place = "here"
    assert residents.speak_for(elsewhere)
    first.place = second.place = "there"
    assert not residents.speak_for(second), "it was announced here"
    assert not residents.speak_for(elsewhere)


def test_nobody_speaks_for_one_whose_name_another_has_nor_for_one_without_a_place() -> None:
    residents = Residents()
    first, twin, nowhere, lost = (
        One("here", name="twin"),
        One("here", name="twin"),
        One(None),
        One(None),
    )
    for one in (first, twin, nowhere, lost):
        residents.enter(one)
    first.announced_at = "here"
    assert not residents.speak_for(twin)
    assert not residents.speak_for(nowhere)
