"""How much memory a body takes, so that what waits for a chart can be bounded in bytes.

The size of a message says little: a text takes as much as it has characters, a list of small
mappings thirty times its pickle. So this module asks Python for the size of each part. That takes
about as long as to deserialize the body, and is done for large ones only. Small ones are bounded by
their number.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

SMALL_BYTES = 1_024
"""A serialized body of up to so many bytes counts as small. It takes up to 70 KB, unless it has
something that is `MANIFOLD`."""

SMALL_MOST_BYTES = 128 * 1024
"""More than a small body takes."""

MANIFOLD = b"deque"
"""Where this is in a serialized body, it counts as large: an empty deque takes 185 times as much
memory as in a pickle."""

TINY_BYTES = 128
"""A serialized body of up to so many bytes is small whatever is in it."""

_UNKNOWN_BYTES = 64
"""For an object that does not tell its size."""

_SAMPLE = 256
"""How many of many numbers and texts are measured."""

_SEQUENCES = (list, tuple, set, frozenset)
_ATOMS = frozenset((int, float, str, bytes, bool, type(None)))


def memory_of(value: Any, at_most: int) -> int:
    """Return about how many bytes of memory a value takes, with all its parts.

    What is inside a container that is shared counts once; anything else counts wherever it is.

    Args:
        value: of any kind; nothing of it is called but ``__sizeof__``.
        at_most: the count ends when it has reached this.
    """
    total = _size_of(value)
    seen = {id(value)}
    containers = [value]
    while containers and total < at_most:
        parts = _parts_of(containers.pop())
        if _ATOMS.issuperset(map(type, parts)):
            # All together they take at most some twelve times their bytes in a pickle. So a sample
            # of very many is good enough, and much faster.
            sample = parts[:: 1 + len(parts) // _SAMPLE]
            total += _sum_of(sample) * len(parts) // max(1, len(sample))
            continue
        total += _sum_of(parts)
        for part in parts:
            if type(part) not in _ATOMS and id(part) not in seen:
                seen.add(id(part))
                containers.append(part)
    return min(total, at_most)


def _sum_of(values: list[Any]) -> int:
    try:
        return sum(map(sys.getsizeof, values))
    except Exception:  # noqa: BLE001  # as in `_size_of`
        return sum(map(_size_of, values))


def _size_of(value: Any) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:  # noqa: BLE001  # a class of the user may have an odd __sizeof__
        return _UNKNOWN_BYTES


def _parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*dict.keys(value), *dict.values(value)]
    if isinstance(value, _SEQUENCES):
        return list(value)
    try:
        parts = list(vars(value).values())
    except Exception:  # noqa: BLE001  # most objects without attributes of their own
        parts = []
    if isinstance(value, deque):  # which only tells the size of its blocks
        parts.extend(deque.__iter__(value))
    return parts
