"""Pickles of the largest size that were made to be slow or large are read or refused at once."""

from __future__ import annotations

import collections
import contextlib
import pickle
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from miros_rabbitmq.limits import Limits
from miros_rabbitmq.wire.pickle_check import Walk
from miros_rabbitmq.wire.pickle_cost import MAX_STEPS
from miros_rabbitmq.wire.pickling import RestrictedPickle

from ...helpers import scaled

SIZE = Limits().event_bytes


def _put(index: int) -> bytes:
    return b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index)


def _text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def _large(number: int) -> bytes:
    size = number.bit_length() // 8 + 1
    return b"\x8b" + struct.pack("<I", size) + number.to_bytes(size, "little")


def _filled(head: bytes, unit: bytes, tail: bytes = b"t", most: int = SIZE) -> bytes:
    count = (SIZE - 3 - len(head) - len(tail)) // len(unit)
    return b"\x80\x03" + head + unit * min(count, most) + tail + b"."


def _called(name: bytes, argument: bytes) -> bytes:
    head = b"(c" + name + b"\nq\x00" + argument + b"\x85q\x01R"
    return _filled(head, b"h\x00h\x01R")


def _fibonacci(bits: int) -> tuple[int, int]:
    one, two = 1, 1
    while two.bit_length() < bits:
        one, two = two, one + two
    return one, two


OPEN = b"".join(b"]" + _put(n) for n in range(255))
REFERRING = OPEN + b"](" + b"".join(b"h" + bytes([n]) for n in range(255)) + b"e" + _put(255)
LARGE, LARGER = map(_large, _fibonacci(14_000))
MEMBERS = b"](" + b"".join(b"J" + struct.pack("<i", n) for n in range(3_000)) + b"e"
TEXTS = b"".join(_text(b"%d" % n) + b"K\x01" for n in range(3_000))

ATTACKS: dict[str, Callable[[], bytes]] = {
    "open lists": lambda: _filled(REFERRING + b"(", b"h\xff", b"t" + b"a" * 255),
    "open lists, one by one": lambda: _filled(REFERRING + b"]", b"h\xffa", b"a" * 256),
    "open lists, in tuples": lambda: _filled(REFERRING + b"(", b"h\xff\x85", b"t" + b"a" * 255),
    "references to the whole": lambda: _filled(b"]q\x00(", b"]h\x00a", b"e"),
    "empty groups": lambda: _filled(b"]", b"(e", b""),
    "empty groups of pairs": lambda: _filled(b"}", b"(u", b""),
    "groups of one": lambda: _filled(b"]", b"(Ne", b""),
    "empty tuples": lambda: _filled(b"(", b"(t"),
    "tuples of one": lambda: _filled(b"(", b"N\x85"),
    "lists": lambda: _filled(b"(", b"]"),
    "mappings": lambda: _filled(b"(", b"}"),
    "the same key": lambda: _filled(b"}" + _text(b"k") + b"q\x00Ns", b"h\x00Ns", b""),
    "marks": lambda: _filled(b"", b"("),
    "reads of the memo": lambda: _filled(b"(" + _text(b"k") + b"q\x00", b"h\x00"),
    "empty texts": lambda: _filled(b"(", b"C\x00"),
    "fractions": lambda: _filled(
        b"(cfractions\nFraction\nq\x00" + LARGE + LARGER + b"\x86q\x01R", b"h\x00h\x01R"
    ),
    "deques": lambda: _filled(b"(ccollections\ndeque\nq\x00)R", b"h\x00)R"),
    "dates": lambda: _called(b"datetime\ndate", b"C\x04\x07\xea\x01\x01"),
    "identifiers": lambda: _called(b"uuid\nUUID", _text(b"0" * 32)),
    "long identifiers": lambda: _called(b"uuid\nUUID", _text(b"-" * 9_000 + b"0" * 32)),
    "sets": lambda: _called(b"builtins\nset", MEMBERS),
    "counters": lambda: _called(b"collections\nCounter", b"}(" + TEXTS + b"u"),
    "copied bytes": lambda: _called(b"builtins\nbytearray", b"B\0\0\4\0" + b"x" * 262_144),
    "copied digits": lambda: _called(b"decimal\nDecimal", _text(b"9" * 262_144)),
    "a large key": lambda: _filled(
        b"](" + b"K\x01" * 100 + b"tq\x00a(" + b"h\x00" * 100 + b"tq\x01a}", b"h\x01Ns", b"a"
    ),
    "a doubled key": lambda: (
        b"\x80\x03}K\x01\x85q\x00"
        + b"".join(b"h%ch%c\x86%b" % (n, n, _put(n + 1)) for n in range(60))
        + b"K\x01s."
    ),
    "small mappings of tuples": lambda: _filled(b"(", b"}(K\x01\x85NK\x02\x85NK\x03\x85Nu"),
}


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_it_is_read_or_refused_within_the_budget(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) <= SIZE
    walk = Walk(data)
    try:
        walk.run()
    except (pickle.UnpicklingError, IndexError):
        # A piece of tokens, and what they cost, is counted at its end.
        assert walk.budget.steps > -0.02 * MAX_STEPS
    started_s = time.process_time()
    with contextlib.suppress(pickle.UnpicklingError, ValueError):
        RestrictedPickle().loads(data)
    assert time.process_time() - started_s < scaled(1.0)


def test_what_contains_itself_still_travels() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    mapping: dict[str, Any] = {"a": 1}
    mapping["self"] = mapping
    parent: dict[str, Any] = {"children": []}
    parent["children"] = [{"parent": parent, "n": n} for n in range(2_500)]
    shared = [1, 2]
    value = [ring, mapping, parent, parent, ring, [shared, (shared, shared), {"a": [shared]}]]
    restored = RestrictedPickle().loads(RestrictedPickle().dumps(value))
    assert restored[0][1] is restored[0] is restored[4]
    assert restored[1]["self"] is restored[1]
    assert all(child["parent"] is restored[2] for child in restored[2]["children"])
    assert restored[5] == value[5]


def test_a_part_of_what_contains_itself_is_not_used_again_beside_it() -> None:
    """Its weight does not count what the whole has taken since; doubled, that would be a bomb."""
    parts = b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(3, 40))
    for more in (b"h\x01", b"h\x01" * 600, b"K\x05h\x01" + parts):
        with pytest.raises(pickle.UnpicklingError, match="contains itself is used again"):
            Walk(b"\x80\x03(]q\x00]q\x01h\x00aa" + more + b"t.").run()


def test_the_sender_refuses_what_only_loading_shows() -> None:
    payload = [collections.deque([n % 100]) for n in range(37_000)]
    with pytest.raises(pickle.PicklingError, match=r"receivers would refuse.*memory"):
        RestrictedPickle().dumps(payload)


class Own:
    """A class of the user's."""


STATES: dict[str, bytes] = {
    "UUID": b"cuuid\nUUID\n" + _text(b"0" * 32) + b"\x85R}" + _text(b"int") + b"K\x05sb",
    "Fraction": b"cfractions\nFraction\nK\x01K\x02\x86RN}" + _text(b"_numerator") + b"NsK\x02\x86b",
    "Counter": b"ccollections\nCounter\n}\x85R}" + _text(b"most_common") + b"K\x05sb",
    "Counter, a count": b"ccollections\nCounter\n}\x85R" + _text(b"a") + b"]s",
    "OrderedDict": b"ccollections\nOrderedDict\n)R}" + _text(b"items") + b"K\x05sb",
}


@pytest.mark.parametrize("codes", STATES.values(), ids=STATES)
def test_no_opcode_changes_a_standard_object_even_beside_registered_classes(codes: bytes) -> None:
    for padding in (b"", _text(b"x" * 2_000)):
        data = b"\x80\x03(" + padding + codes + b"t."
        with pytest.raises(pickle.UnpicklingError):
            RestrictedPickle([Own]).loads(data)
