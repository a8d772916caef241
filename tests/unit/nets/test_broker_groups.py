"""Of the addresses of one broker, one is used and stays used."""

from __future__ import annotations

import pytest

from miros_rabbitmq.nets.broker_groups import BrokerGroups
from miros_rabbitmq.urls import Address

A, B, C, D = (Address(f"127.0.0.{number}", 5672) for number in range(1, 5))
RANKS = {A: (0, 0), B: (1, 1), C: (1, 2), D: (2, 3)}


@pytest.fixture
def groups() -> BrokerGroups:
    return BrokerGroups(RANKS.__getitem__)


def test_an_address_of_its_own_is_used(groups: BrokerGroups) -> None:
    assert groups.used(A) == A
    assert groups.mates(A) == frozenset()
    assert groups.spare_of == {}
    groups.leave(A)


def test_who_joins_is_a_spare_whatever_its_rank(groups: BrokerGroups) -> None:
    assert groups.join(A, B)
    assert groups.join(C, A)
    assert not groups.join(B, C), "they are one group already"
    assert groups.spare_of == {A: B, C: B}
    assert groups.mates(A) == {B, C}
    assert groups.outranks_used(A)
    assert not groups.outranks_used(C)
    assert not groups.outranks_used(B), "not even itself"


def test_all_spares_of_one_that_joins_come_with_it(groups: BrokerGroups) -> None:
    groups.join(B, A)
    groups.join(D, C)
    groups.join(C, B)
    assert groups.spare_of == {B: A, C: A, D: A}


def test_another_is_used_only_if_asked_for(groups: BrokerGroups) -> None:
    groups.join(B, A)
    groups.join(C, A)
    groups.use(C)
    assert groups.spare_of == {A: C, B: C}
    groups.use(C)
    assert groups.used(A) == C


def test_of_those_that_are_left_a_usable_one_is_used_then_the_first_by_rank(
    groups: BrokerGroups,
) -> None:
    for other in (B, C, D):
        groups.join(other, A)
    groups.leave(A, [C, D])
    assert groups.spare_of == {B: C, D: C}
    groups.leave(C)
    assert groups.spare_of == {D: B}
    groups.leave(D)
    assert groups.spare_of == {}
    assert groups.used(B) == B
    assert groups.best([D, C, B]) == B
    assert groups.best([D, C, B], [D]) == D


def test_a_spare_that_leaves_changes_nothing_for_the_others(groups: BrokerGroups) -> None:
    groups.join(B, A)
    groups.join(C, A)
    groups.leave(B, [B, C])
    assert groups.spare_of == {C: A}
    assert groups.mates(B) == frozenset()


def test_who_brings_another_that_is_used_and_ranks_higher_has_that_one_used(
    groups: BrokerGroups,
) -> None:
    groups.join(D, A)
    groups.join(D, C)
    assert groups.spare_of == {C: A, D: A}
    groups.join(A, B)
    assert groups.spare_of == {A: B, C: B, D: B}, "it joins itself"
