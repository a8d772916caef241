"""What shares one hash, counted before it becomes a set or the keys of a mapping.

Python would compare each of it with each.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from typing import Any

from .harmless import ClassRefused

MAX_COMPARED = 100_000
"""Parts of values, in one message, that equal hashes have compared: some 300 integers of one hash.
It takes 0.05 s to count them, and less to compare them."""

_SIMPLE = frozenset((int, float, str, bytes, bool, type(None), tuple, frozenset))
_OBJECT_PARTS = 20
"""As how many parts a Fraction counts that is compared: the slowest of all."""


class CrowdRefused(ClassRefused):
    """Too much of it shares one hash."""


class Crowd:
    """What equal hashes have compared in one message."""

    def __init__(self) -> None:
        self._left = MAX_COMPARED

    def look_at(self, members: Iterable[Any]) -> None:
        """Count what becomes the members of a set, or the keys of a mapping.

        Raises:
            ClassRefused: too much of it has the same hash.
            TypeError: something has none.
        """
        for group in _of_one_hash(members):
            for member in group:
                self._compare(member, len(group) - 1)

    def _compare(self, value: Any, times: int) -> None:
        cls = type(value)
        self._left -= times if cls in _SIMPLE else times * _OBJECT_PARTS
        if self._left < 0:
            raise CrowdRefused(
                "too many keys of mappings or members of sets share one hash; a list, of pairs "
                "too, may have them"
            )
        if cls is tuple:
            for part in value:
                self._compare(part, times)
        elif cls is frozenset:
            for part in value:
                self._compare(part, times)
            for group in _of_one_hash(value):
                for part in group:
                    self._compare(part, times * (len(group) - 1))


def _of_one_hash(members: Iterable[Any]) -> list[list[Any]]:
    """The groups of two and more."""
    # In order, and not in a set: the hashes are numbers of somebody's choice, too.
    hashes = sorted(map(hash, members))
    if not any(map(operator.eq, hashes, hashes[1:])):
        return []
    groups = (list(group) for _, group in itertools.groupby(sorted(members, key=hash), hash))
    return [group for group in groups if len(group) > 1]
