"""The unpickler accepts only allowed classes, and counts comparisons before Python makes them."""

from __future__ import annotations

import decimal
import pathlib
import pickle
import sys
from fractions import Fraction
from typing import Any

import pytest

from miros_rabbitmq.wire.payload_types import ClassRefused
from miros_rabbitmq.wire.pickle_cost import MAX_STEPS, Budget
from miros_rabbitmq.wire.unpickler import (
    STEPS_PER_COMPARED,
    CollisionRefused,
    Collisions,
    RestrictedUnpickler,
    check_key_hashes,
)

MODULUS = sys.hash_info.modulus
MOST_COMPARED = MAX_STEPS // STEPS_PER_COMPARED


def of_one_hash(count: int) -> list[int]:
    return [n * MODULUS + 5 for n in range(1, count + 1)]


def test_members_of_different_hashes_cost_nothing() -> None:
    collisions = Collisions(Budget(1))
    for _ in range(3):
        collisions.count(range(MOST_COMPARED))


def test_members_of_one_hash_count_with_the_square_of_their_number() -> None:
    most = int(MOST_COMPARED**0.5)
    Collisions(Budget(1)).count(of_one_hash(most))
    with pytest.raises(CollisionRefused):
        Collisions(Budget(1)).count(of_one_hash(most + 2))


def test_one_budget_holds_for_all_the_sets_of_a_message() -> None:
    collisions = Collisions(Budget(1))
    half = of_one_hash(250)
    collisions.count(half)
    with pytest.raises(CollisionRefused):
        collisions.count(half)


@pytest.mark.parametrize(
    "wrap",
    [lambda n: (n, 1), lambda n: frozenset({n, 1}), Fraction, decimal.Decimal],
    ids=["tuple", "frozenset", "Fraction", "Decimal"],
)
def test_a_comparison_of_values_with_parts_counts_for_more(wrap: Any) -> None:
    members = of_one_hash(250)
    Collisions(Budget(1)).count(members)
    with pytest.raises(CollisionRefused):
        Collisions(Budget(1)).count([wrap(n) for n in members])


def test_a_member_without_a_hash_is_an_error() -> None:
    with pytest.raises(TypeError):
        Collisions(Budget(1)).count([[1]])


def test_it_loads_plain_data_and_sets_without_any_class() -> None:
    value = [1, "text", {"key": (None, {1, 2}, frozenset({"a"}))}]
    assert RestrictedUnpickler(pickle.dumps(value, 3), {}).load() == value


def test_it_looks_up_only_the_classes_that_it_is_given() -> None:
    data = pickle.dumps(decimal.Decimal("1.5"), 3)
    path = pickle.dumps(pathlib.PurePosixPath("/a"), 3)
    with pytest.raises(ClassRefused, match=r"PurePosixPath is not an allowed class"):
        RestrictedUnpickler(path, {}).load()
    assert RestrictedUnpickler(data, {}).load() == decimal.Decimal("1.5")


def test_it_refuses_a_set_before_it_is_built() -> None:
    data = pickle.dumps(set(of_one_hash(400)), 3)
    with pytest.raises(CollisionRefused):
        RestrictedUnpickler(data, {}).load()


def test_the_keys_of_a_mapping_are_looked_at_without_the_mapping() -> None:
    data = pickle.dumps(dict.fromkeys(of_one_hash(400)), 3)
    places = [1]
    with pytest.raises(CollisionRefused):
        check_key_hashes(data, places, {})
    check_key_hashes(data, [], {})
    check_key_hashes(pickle.dumps(dict.fromkeys(range(400)), 3), places, {})


def test_a_pickle_cannot_ask_for_the_recorder_of_keys() -> None:
    recorder = b"cmiros_rabbitmq.wire.unpickler\n_KeyRecorder\n)R."
    with pytest.raises(ClassRefused, match="_KeyRecorder is not an allowed class"):
        RestrictedUnpickler(b"\x80\x03" + recorder, {}).load()
