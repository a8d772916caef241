"""Pickles of the largest size that were made to be slow or large are read or refused at once."""

from __future__ import annotations

import collections
import contextlib
import datetime
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


class Branch:
    """A registered class whose objects know their parents."""

    def __init__(self, parent: Branch | None) -> None:
        self.parent = parent
        self.children: list[Branch] = []
        if parent is not None:
            parent.children.append(self)


@pytest.mark.parametrize("count", [2, 2_500])
def test_what_contains_itself_still_travels(count: int) -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    mapping: dict[str, Any] = {"a": 1}
    mapping["self"] = mapping
    long: list[Any] = []
    long += [long] * count
    parent = Branch(None)
    for _ in range(count):
        Branch(Branch(parent))
    shared = [1, 2]
    value = [ring, mapping, parent, parent, ring, long, [shared, (shared, shared), {"a": [shared]}]]
    restricted = RestrictedPickle([Branch])
    restored = restricted.loads(restricted.dumps(value))
    assert restored[0][1] is restored[0] is restored[4]
    assert restored[1]["self"] is restored[1]
    assert len(restored[2].children) == count
    assert all(child.parent is restored[2] is restored[3] for child in restored[2].children)
    assert all(child.children[0].parent is child for child in restored[2].children)
    assert len(restored[5]) == count
    assert all(one is restored[5] for one in restored[5])
    assert restored[6] == value[6]


def _ancestors(depth: int) -> list[Any]:
    """Lists in each other, each of which contains all that it is in."""
    whole: list[Any] = []
    around = [whole]
    for _ in range(depth):
        inner: list[Any] = list(around)
        around[-1].append(inner)
        around.append(inner)
    return whole


def _parent(make: Callable[[Any], Any], count: int) -> dict[str, Any]:
    parent: dict[str, Any] = {}
    parent["children"] = make({"parent": parent, "n": n} for n in range(count))
    return parent


BACK: dict[str, Callable[[], Any]] = {
    "all ancestors": lambda: _ancestors(16),
    "one ancestor": lambda: _ancestors(1),
    "parents": lambda: _parent(list, 1),
    "many parents": lambda: _parent(list, 2_500),
    "parents in tuples": lambda: _parent(tuple, 3),
    "parents in a deque": lambda: _parent(collections.deque, 3),
}


@pytest.mark.parametrize("make", BACK.values(), ids=BACK)
def test_no_part_of_plain_data_refers_back_to_the_whole(make: Callable[[], Any]) -> None:
    """To print a part of it could take a time that doubles with each level."""
    value = make()
    with pytest.raises(pickle.PicklingError, match="refers back to the whole"):
        RestrictedPickle().dumps(value)
    with pytest.raises(pickle.UnpicklingError, match="refers back to the whole"):
        RestrictedPickle().loads(pickle.dumps(value, 3))


def test_a_part_of_what_contains_itself_is_not_used_again_beside_it() -> None:
    """Its weight does not count what the whole has taken since; doubled, that would be a bomb."""
    name = f"c{__name__}\nBranch\n".encode()
    parts = b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(3, 40))
    for more in (b"h\x01", b"h\x01" * 600, b"K\x05h\x01" + parts):
        data = b"\x80\x03(" + name + b")\x81q\x00]q\x01h\x00ab" + more + b"t."
        with pytest.raises(pickle.UnpicklingError, match="contains itself is used again"):
            Walk(data, [name]).run()
        with pytest.raises(pickle.UnpicklingError, match="refers back to the whole"):
            Walk(data).run()


FILE = "caf\udce9.txt"
TEXTS_REFUSED: dict[str, Any] = {
    "text": FILE,
    "item": ["a", FILE],
    "key": {FILE: 1},
    "long": "x" * 2_000 + "\ud800",
    "behind much": ["x" * 200] * 90 + list(range(9_000)) + [FILE],
    "upper half": "\udfff",
    "member": {FILE},
    "name of a zone": datetime.timezone(datetime.timedelta(hours=1), FILE),
}


@pytest.mark.parametrize("value", TEXTS_REFUSED.values(), ids=TEXTS_REFUSED)
@pytest.mark.parametrize("padding", ["", "x" * 1_100])
def test_a_text_that_cannot_be_printed_is_refused(value: Any, padding: str) -> None:
    whole = (padding, value)
    with pytest.raises(pickle.PicklingError, match=r"surrogate.*os\.fsencode\(name\)\.hex\(\)"):
        RestrictedPickle().dumps(whole)
    restricted = RestrictedPickle([datetime.timezone])
    with pytest.raises(pickle.UnpicklingError, match="surrogate"):
        restricted.loads(pickle.dumps(whole, 3))


def test_a_registered_object_with_such_a_text_is_refused() -> None:
    for name, value in (("file", FILE), (FILE, 1)):
        branch = Branch(None)
        vars(branch)[name] = value
        with pytest.raises(pickle.PicklingError, match="surrogate"):
            RestrictedPickle([Branch]).dumps(branch)
        with pytest.raises(pickle.UnpicklingError, match="surrogate"):
            RestrictedPickle([Branch]).loads(pickle.dumps(branch, 3))


def test_what_looks_like_half_of_a_pair_elsewhere_travels() -> None:
    number = struct.unpack(">d", b"\x40\xed\xa0\x80\xed\xb0\x80\x00")[0]
    value = [b"\xed\xa0\x80", number, 0x80A0ED, "\ud7ff \U0010ffff", "K" * 0xED + "\u0800"]
    for one in (value, value * 400, [b"\xed\xa0\x80" * 900, bytearray(b"\xed\xa0\x80")]):
        assert RestrictedPickle().loads(RestrictedPickle().dumps(one)) == one


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
