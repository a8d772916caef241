"""JSON in place of pickle: plain data comes back equal; anything else is refused at the sender."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.wire.json_codec import MAX_DEPTH, json_deserializer, json_serializer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("aä\u2028", max_size=5), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_plain_data_comes_back(value: Any) -> None:
    restored = json_deserializer(json_serializer(value))
    assert restored == value
    assert repr(restored) == repr(value), "1 is not True, nor 1.0"


def test_a_tuple_comes_back_as_a_list() -> None:
    assert json_deserializer(json_serializer((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize(
    "value", [b"x", {1}, {1: 2}, {None: 1}, object(), math.nan, [math.inf], "\ud800", 1j], ids=repr
)
def test_data_that_would_come_back_changed_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        json_serializer({"in": [value]})


def test_a_value_that_is_nested_too_deep_is_refused_on_both_sides() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert json_deserializer(json_serializer(value)) == value
    with pytest.raises(ValueError, match="deep"):
        json_serializer([value])
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises((ValueError, RecursionError)):
            json_deserializer(b"[" * levels + b"]" * levels)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"NaN", b"[Infinity]", b"-Infinity", b"\xff", b"1" * 5_000]
)
def test_data_that_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json_deserializer(data)
