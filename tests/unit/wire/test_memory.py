"""How much memory a body takes."""

from __future__ import annotations

import sys
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import pytest

from miros_rabbitmq.wire.memory import memory_of

MUCH = 1 << 30

MAKERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(700_000),
    "a text of wide letters": lambda: "\N{GRINNING FACE}" * 100_000,
    "numbers": lambda: [number + 1_000_000 for number in range(50_000)],
    "mappings of one pair": lambda: [{"key": float(number)} for number in range(5_000)],
    "nested": lambda: [([float(number)], (float(number), {number})) for number in range(5_000)],
    "empty deques": lambda: [deque() for _ in range(2_000)],
    "deques": lambda: [deque([float(number)]) for number in range(2_000)],
    "ordered": lambda: OrderedDict((str(number), float(number)) for number in range(5_000)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_is_about_what_python_takes(make: Callable[[], Any]) -> None:
    tracemalloc.start()
    try:
        value = make()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * taken < memory_of(value, MUCH) < 1.4 * taken


def test_a_container_that_is_shared_or_contains_itself_counts_once() -> None:
    part = [bytes(10_000)]
    shared = memory_of([part] * 1_000, MUCH)
    assert shared < 100_000
    cyclic: list[Any] = [part]
    cyclic.append(cyclic)
    assert memory_of(cyclic, MUCH) < 30_000


def test_it_counts_no_further_than_it_has_to() -> None:
    value = [[bytes(1_000)] for _ in range(100)]
    assert memory_of(value, 5_000) == 5_000


class Odd:
    """A class of the user."""

    def __init__(self) -> None:
        self.data = bytes(5_000)

    def __sizeof__(self) -> int:
        raise RuntimeError("no size")


class Slotted:
    __slots__ = ("data",)


def test_objects_of_any_class_are_counted_with_their_attributes() -> None:
    assert memory_of(Odd(), MUCH) > 5_000
    assert memory_of([Slotted(), Odd, sys, print], MUCH) > 0
