"""The check refuses harmful pickles before they are loaded, and passes ordinary payloads."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import pickle
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.wire.opcodes import NUMBER, NUMBERS, PIECE, SMALL_TOKENS, TOKENS
from miros_rabbitmq.wire.pickle_check import Walk, check_opcodes
from miros_rabbitmq.wire.pickle_cost import (
    MAX_DEPTH,
    MAX_INTEGER_BYTES,
)
from miros_rabbitmq.wire.pickling import ClassRefused, OpcodeRefused, RestrictedPickle

from ...helpers import scaled
from . import loading
from .loading import BOUND, MANY

for _expression in (SMALL_TOKENS, TOKENS, PIECE, NUMBERS, NUMBER):
    _ = _expression.match  # compiles it, which takes memory and time once

HEAD = b"\x80\x03"
LARGE = b"B" + (100_000).to_bytes(4, "little") + b"x" * 100_000


def doubled(times: int, begin: bytes = b"K\x01q\x00") -> bytes:
    """Opcodes of a tuple that holds a tuple twice, which holds a tuple twice, and so on."""
    steps = (b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(times))
    return begin + b"".join(steps)


def copied(name: bytes, argument: bytes, times: int = 5_000) -> bytes:
    """Opcodes that make many objects from the same large argument."""
    call = b"h\x01h\x02\x85R"
    return b"(c" + name + b"\nq\x01" + argument + b"q\x02" + call * times + b"t"


BOMBS: dict[str, bytes] = {
    "memo index": b"K\x01r\xff\xff\xff\x7f",
    "memo index in a list": b"](X\x01\x00\x00\x00ar\xff\xff\xff\x00e",
    "memo index as text": b"K\x01p2000000000\n",
    "length of bytes": b"B\xff\xff\xff\x7f",
    "length of a text": b"X\xff\xff\xff\x7f",
    "length of bytes, 8 bytes": b"\x8e\xff\xff\xff\xff\x0f\x00\x00\x00",
    "length of a bytearray": b"\x96\xff\xff\xff\xff\x0f\x00\x00\x00",
    "frame": b"\x95\xff\xff\xff\xff\x0f\x00\x00\x00K\x01",
    "integer": b"\x8b" + (MAX_INTEGER_BYTES + 1).to_bytes(4, "little") + b"\x01" * 5_000,
    "integer as text": b"I" + b"9" * 100_000 + b"\n",
    "deep tuples": b"K\x01" + b"\x85" * (MAX_DEPTH + 1),
    "very deep tuples": b"K\x01" + b"\x85" * 500_000,
    "deep key of a mapping": b"}K\x01" + b"\x85" * 200_000 + b"K\x01s",
    "deep lists": b"]" * 500 + b"a" * 499,
    "doubled tuples": doubled(60),
    "doubled tuples as a key": b"}" + doubled(60) + b"K\x01s",
    "doubled behind what looks like an opcode": b"K\x01\x85q\x00"
    + b"".join(b"(Khh%bKhh%btq%b" % (bytes([n]), bytes([n]), bytes([n + 1])) for n in range(60)),
    "texts put behind what looks like an opcode": b"(X\x01\0\0\0aq\x00t("
    + b"K\x01" * 600
    + b"X\xff\0\0\0"
    + b"q" * 255
    + b"q\x00t("
    + b"h\x00" * 70_000
    + b"tt",
    "doubled lists": b"]q\x00"
    + b"".join(b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60))
    + b"t",
    "copied bytearrays": copied(b"builtins\nbytearray", LARGE),
    "texts put in the place of shorter ones": b"(X\x01\0\0\0aq\x00t("
    + b"K\x01" * 600
    + b"X\xff\0\0\0"
    + b"a" * 255
    + b"q\x00"
    + b"t("
    + b"h\x00" * 70_000
    + b"tt",
    "texts put there with a long index": b"(X\x01\0\0\0aq\x00t(X\xff\0\0\0"
    + b"a" * 255
    + b"r\x00\0\0\0K\x01t("
    + b"h\x00" * 70_000
    + b"tt",
    "texts put in the place of a number": b"(K\x01q\x00("
    + b"K\x01" * 600
    + b"X\xff\0\0\0"
    + b"a" * 255
    + b"q\x00t("
    + b"h\x00" * 70_000
    + b"tt",
    "copied numbers": copied(b"decimal\nDecimal", b"X" + LARGE[1:5] + b"9" * 100_000),
    "copied mappings": copied(
        b"collections\nCounter",
        b"}(" + b"".join(b"M" + n.to_bytes(2, "little") + b"K\x01" for n in range(20_000)) + b"u",
    ),
    "copied sets": copied(b"builtins\nset", b"](" + b"K\x01" * 50_000 + b"e"),
    "siblings that double": b"]q\x00"
    + b"".join(b"h%b\x86q%b" % (bytes([n]), bytes([n + 1])) for n in range(60)),
    "a part of a cycle elsewhere": b"(]q\x00]q\x01h\x00aah\x01t" + b"q\x01" * 600,
    "a long text, many times": b"](X\0\0\1\0" + b"a" * 65_536 + b"q\0e" + b"h\0a" * 5_000,
    "a long text in pairs": b"}X\0\0\1\0" + b"a" * 65_536 + b"q\0Ns" + b"C\0h\0s" * 5_000,
    "pops": b"K\x01K\x020",
    "duplicates": b"K\x012",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_anything_is_loaded(bomb: bytes) -> None:
    data = HEAD + bomb + b"."
    tracemalloc.start()
    started_s = time.process_time()
    try:
        with pytest.raises(pickle.UnpicklingError):
            RestrictedPickle().loads(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000 + 300 * len(data), f"{peak:,} bytes for {len(data):,}"
    assert time.process_time() - started_s < 20  # tracemalloc makes it ten times slower


@pytest.fixture(scope="module")
def memory() -> dict[str, tuple[int, int, int]]:
    """What loading each of `MANY` takes, what is counted for it, and what it takes if refused."""
    arguments = [sys.executable, "-m", loading.__name__]
    printed = subprocess.run(arguments, capture_output=True, check=True, timeout=scaled(60))
    return dict(json.loads(printed.stdout))


@pytest.mark.parametrize("name", MANY)
def test_loading_takes_about_the_memory_that_was_counted(
    name: str, memory: dict[str, tuple[int, int, int]]
) -> None:
    """Python's versions differ: a list takes 0.7 to 1.3 times of it, a mapping up to 1.6 times."""
    taken, counted, until_refused = memory[name]
    assert taken < 2 * counted
    assert until_refused < 2 * BOUND


CUT_SHORT = (
    b"|K|K\x01|(.|t.|e.|K\x01..|X\x05\x00\x00\x00abc|\x86.|q\x01K\x01.|](q\x01.|h\x01q\x01|cos\n."
).split(b"|")


@pytest.mark.parametrize("rest", CUT_SHORT)
def test_a_pickle_that_is_cut_short_or_takes_more_than_is_there_is_refused(rest: bytes) -> None:
    for padding in (b"", b"X\xff\x00\x00\x00" + b"x" * 255 + b"q\x00" * 400):
        with pytest.raises((pickle.UnpicklingError, EOFError, IndexError, KeyError)):
            RestrictedPickle().loads(HEAD + padding + rest)


@pytest.mark.parametrize("rest", [b".", b"K\x01K\x02.", b"(K\x01."])
def test_the_walk_refuses_a_pickle_that_leaves_something_over(rest: bytes) -> None:
    """The quick way passes some of these. That does no harm: the unpickler returns the top."""
    with pytest.raises((OpcodeRefused, IndexError)):
        Walk(HEAD + rest).run()


@pytest.mark.parametrize("wrong", [b"", b"0.", b"..", b"cos\n", b"\x82\x01."])
def test_the_quick_way_gives_up_in_linear_time(wrong: bytes) -> None:
    """If a text could match in two ways, Python would try forty texts in 2 ** 40 ways."""
    texts = b"X\x01\0\0\0aq\x01" * 40 + b"K\x01h\x00" * 8 + b"C\x01bq\x02" * 40
    for plain in (texts, texts + b"cos\nsystem\nq\x03", b"cos\nsystem\nq\x03" + texts):
        with pytest.raises((OpcodeRefused, IndexError)):
            check_opcodes(HEAD + b"(" + plain + wrong)


def test_other_protocols_are_refused() -> None:
    for protocol in (0, 1, 2, 4, 5):
        with pytest.raises(OpcodeRefused):
            check_opcodes(pickle.dumps({"a": [1, 2, (3,)]}, protocol))


@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1, MAX_DEPTH])
def test_containers_may_be_nested_as_deep_as_the_limit(levels: int) -> None:
    for make in (lambda inner: [inner], lambda inner: (inner,), lambda inner: {"k": inner}):
        value: Any = 1
        for _ in range(levels):
            value = make(value)
        restricted = RestrictedPickle()
        assert restricted.loads(restricted.dumps(value)) == value


def test_a_payload_that_is_too_deep_is_refused_at_the_sender_with_the_remedy() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ClassRefused, match=f"more than {MAX_DEPTH} deep.*send plainer data"):
        RestrictedPickle().dumps(value)


ORDINARY: dict[str, Any] = {
    "numbers": list(range(20_000)),
    "siblings": [[n] for n in range(200)] * 2 + [{n: [n]} for n in range(200)] * 2,
    "texts": [f"text {n}" for n in range(20_000)],
    "records": [{"temperature": n, "place": "attic", "ok": True} for n in range(5_000)],
    "many records": [
        {"temperature": n, "place": "attic", "ok": True, "humidity": 0.5} for n in range(25_000)
    ],
    "times": [
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(hours=n)
        for n in range(5_000)
    ],
    "prices": [decimal.Decimal(n) / 7 for n in range(5_000)],
    "pairs": {(n, str(n)): [n] for n in range(5_000)},
    "one part in many places": [list(range(100))] * 1_000,
    "one text in many places": ["a long name of something" * 20] * 20_000,
    "bytes": b"\x00" * 500_000,
    "long text": "h" * 500_000,
    "texts with every opcode": ["".join(map(chr, range(256)))] * 3 + ["hhhhhhhhrrrrrrrrtttt"] * 99,
    "large integers": [2**n for n in range(0, 8_000, 7)],
    "queue": collections.deque([(n, None) for n in range(3_000)], maxlen=5_000),
}


@pytest.mark.parametrize("value", ORDINARY.values(), ids=ORDINARY)
def test_large_ordinary_payloads_pass(value: Any) -> None:
    restricted = RestrictedPickle()
    assert restricted.loads(restricted.dumps(value)) == value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner)
        | inner.map(lambda one: [one, one])
    ),
    max_leaves=40,
)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_the_quick_way_and_the_walk_agree(value: Any) -> None:
    data = pickle.dumps(value, 3)
    check_opcodes(data)
    Walk(data).run()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*b"()]}NKqhrXC.etusaR\x85\x86\x87", 0, 1, 2]), max_size=40))
def test_any_opcodes_are_loaded_or_refused_without_harm(codes: list[int]) -> None:
    tracemalloc.start()
    try:
        RestrictedPickle().loads(HEAD + bytes(codes) + b".")
    except (pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, ValueError,
            AttributeError, OverflowError):  # fmt: skip
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000
