"""A rebuilder accepts only the arguments that our own writer makes, and no attributes."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import fractions
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.wire.payload_types import HARMLESS, ClassRefused, Rebuilder
from miros_rabbitmq.wire.pickle_cost import Budget

from ...fuzz.targets import use


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (bytearray, (b"text",)),
        (collections.deque, ((), 5)),
        (datetime.timedelta, (1, 2, 3)),
        (decimal.Decimal, ("1.5",)),
        (set, ([1, 2],)),
    ],
)
def test_it_makes_the_object_that_the_class_would_make(
    cls: type, arguments: tuple[Any, ...]
) -> None:
    made = Rebuilder(cls, Budget(1))(*arguments)
    assert type(made) is cls
    assert made == cls(*arguments)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (bytearray, (2**30,)),
        (collections.deque, (range(10**9),)),
        (decimal.Decimal, (1.5,)),
        (frozenset, (range(10**9),)),
        (set, ([], [])),
    ],
)
def test_it_refuses_other_arguments(cls: type, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ClassRefused, match=f"a {cls.__qualname__} may not be rebuilt"):
        Rebuilder(cls, Budget(1))(*arguments)


def test_its_check_sees_the_arguments_before_an_object_is_made() -> None:
    seen: list[Any] = []

    def refuse(argument: Any) -> None:
        seen.append(argument)
        raise ClassRefused("no")

    with pytest.raises(ClassRefused, match="no"):
        Rebuilder(set, Budget(1), refuse)([[]])  # a set of a list would be a TypeError
    assert seen == [[[]]]


@pytest.mark.parametrize("cls", HARMLESS)
def test_it_takes_no_attributes(cls: type) -> None:
    rebuilder: Any = Rebuilder(cls, Budget(1))
    with pytest.raises(ClassRefused, match="may not set attributes"):
        rebuilder.tainted = True


def datetime_of(year: bytes = b"\x07\xea", rest: bytes = b"\1\1\0\0\0\0\0\0") -> Any:
    return datetime.datetime, (year + rest,)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        datetime_of(b"\xff\xff"),
        datetime_of(b"\0\0"),
        datetime_of(rest=b"\2\x1e\0\0\0\0\0\0"),
        datetime_of(rest=b"\1\0\0\0\0\0\0\0"),
        datetime_of(rest=b"\1\1\x18\0\0\0\0\0"),
        datetime_of(rest=b"\1\1\0\xff\0\0\0\0"),
        datetime_of(rest=b"\1\1\0\0\x3c\0\0\0"),
        datetime_of(rest=b"\1\1\0\0\0\xff\xff\xff"),
        (datetime.date, (b"\xff\xff\1\1",)),
        (datetime.date, (b"\0\0\1\1",)),
        (datetime.date, (b"\7\xea\2\x1e",)),
        (datetime.time, (b"\0\xff\0\0\0\0",)),
        (datetime.time, (b"\0\0\0\xff\xff\xff",)),
        (decimal.Decimal, ("sNaN",)),
        (decimal.Decimal, ("-sNaN12",)),
        (collections.Counter, ({"a": decimal.Decimal("NaN"), "b": decimal.Decimal(1)},)),
        (collections.Counter, ({"a": float("nan"), "b": decimal.Decimal("Infinity")},)),
        (collections.Counter, ({"a": [1], "b": "x"},)),
        (fractions.Fraction, (1, 0)),
        (uuid.UUID, ("z" * 32,)),
        (uuid.UUID, ("1" * 33,)),
        (datetime.timezone, (datetime.timedelta(days=2),)),
        (datetime.datetime, (b"\7\xea\1\1\0\0\0\0\0\0", 5)),
        (collections.deque, ((), -1)),
        (range, (0, 1, 0)),
    ],
)
def test_no_object_is_made_that_could_not_be_used(cls: type, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError, ClassRefused)):
        Rebuilder(cls, Budget(1))(*arguments)


ARGUMENTS: dict[type, st.SearchStrategy[tuple[Any, ...]]] = {
    bytearray: st.tuples(st.binary()),
    complex: st.tuples(st.floats(), st.floats()),
    range: st.tuples(st.integers(), st.integers(), st.integers()),
    datetime.date: st.tuples(st.binary(min_size=4, max_size=4)),
    datetime.datetime: st.tuples(st.binary(min_size=10, max_size=10))
    | st.tuples(st.binary(min_size=10, max_size=10), st.timezones()),
    datetime.time: st.tuples(st.binary(min_size=6, max_size=6))
    | st.tuples(st.binary(min_size=6, max_size=6), st.timezones()),
    datetime.timedelta: st.tuples(st.integers(), st.integers(), st.integers()),
    datetime.timezone: st.tuples(st.timedeltas()) | st.tuples(st.timedeltas(), st.text()),
    decimal.Decimal: st.tuples(
        st.from_regex(r"[+-]?(s?nan\d{0,9}|inf|\d{1,9}(e[+-]?\d{1,19})?)", fullmatch=True)
    ),
    fractions.Fraction: st.tuples(st.integers(), st.integers()),
    uuid.UUID: st.tuples(st.from_regex(r"[0-9a-f{}-]{30,36}", fullmatch=True)),
    collections.deque: st.tuples(st.just(()), st.integers()),
    collections.Counter: st.tuples(
        st.dictionaries(
            st.text(),
            st.integers() | st.floats() | st.none() | st.decimals() | st.lists(st.integers()),
        )
    ),
    set: st.tuples(st.lists(st.integers() | st.text() | st.decimals(allow_nan=False))),
}


@settings(deadline=None, max_examples=100)
@given(st.data())
@pytest.mark.parametrize("cls", ARGUMENTS)
def test_whatever_is_made_can_be_used(cls: type, data: st.DataObject) -> None:
    arguments = data.draw(ARGUMENTS[cls])
    try:
        made = Rebuilder(cls, Budget(1))(*arguments)
    except (ValueError, TypeError, ArithmeticError, ClassRefused):
        return
    use(made)
    use([made, {"key": (made,)}])


def test_a_class_itself_can_be_copied_and_nothing_else() -> None:
    rebuilder = Rebuilder(set, Budget(1))
    assert copy.copy(rebuilder) is copy.deepcopy(rebuilder) is rebuilder
