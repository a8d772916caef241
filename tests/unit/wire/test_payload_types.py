"""A rebuilder accepts only the arguments that our own writer makes, and no attributes."""

from __future__ import annotations

import collections
import datetime
import decimal
from typing import Any

import pytest

from miros_rabbitmq.wire.payload_types import HARMLESS, ClassRefused, Rebuilder


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
    made = Rebuilder(cls)(*arguments)
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
        Rebuilder(cls)(*arguments)


def test_its_check_sees_the_arguments_before_an_object_is_made() -> None:
    seen: list[Any] = []

    def refuse(argument: Any) -> None:
        seen.append(argument)
        raise ClassRefused("no")

    with pytest.raises(ClassRefused, match="no"):
        Rebuilder(set, refuse)([[]])  # a set of a list would be a TypeError
    assert seen == [[[]]]


@pytest.mark.parametrize("cls", HARMLESS)
def test_it_takes_no_attributes(cls: type) -> None:
    rebuilder: Any = Rebuilder(cls)
    with pytest.raises(ClassRefused, match="may not set attributes"):
        rebuilder.tainted = True
