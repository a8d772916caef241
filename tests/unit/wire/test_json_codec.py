"""JSON in place of pickle: plain data comes back equal; anything else is refused at the sender."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.wire.json_codec import (
    MAX_DEPTH,
    MOST_DIGITS,
    json_deserializer,
    json_serializer,
)
from tests.helpers import scaled

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
    "value",
    [b"x", {1}, {1: 2}, {None: 1}, object(), math.nan, [math.inf], "\ud800", 1j, 10**4_300],
    ids=lambda value: f"{value!r:.9}" if not isinstance(value, int) else "a long integer",
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


# What a holder of the key may send instead: text that Python's parser takes, but whose value cannot
# be printed, encoded or serialized again.

HALVES = [r"\ud800", r"\uDC00", r"\udfff", r"\udbff\ud800", r"\udc00\ud800", r"\\\ud9ab"]
NUMBERS = ["1e400", "-1e400", "1E999999", "9" * 400 + ".0", "[1e400]", "[[-1.5e309]]"]
LONG = ["1" * 4_301, "-" + "1" * 4_301, "1" * 5_000, "9" * 900_000]


def wrapped(text: str) -> list[bytes]:
    forms = ("{}", "[{}]", '{{"a": {}}}', '{{"a": [{{"b": {}}}, 1]}}', "[0, {}, null]")
    return [form.format(text).encode() for form in forms]


@pytest.mark.parametrize("text", [*NUMBERS, *LONG], ids=lambda text: text[:12])
def test_a_number_that_could_not_be_used_is_refused_wherever_it_is(text: str) -> None:
    for data in wrapped(text):
        with pytest.raises(ValueError, match=r"range|digits"):
            json_deserializer(data)


@pytest.mark.parametrize("half", HALVES)
def test_half_of_a_surrogate_pair_is_refused_in_values_and_in_keys(half: str) -> None:
    keys = [f'{{"{half}": 1}}'.encode(), f'[{{"a": {{"b{half}c": null}}}}]'.encode()]
    for data in [*wrapped(f'"a{half}b"'), *keys]:
        with pytest.raises(ValueError, match="surrogate"):
            json_deserializer(data)
    with pytest.raises(ValueError, match=r"surrogate.*send"):
        json_serializer({"a": half.encode().decode("unicode_escape")})


def test_a_whole_pair_and_the_text_that_names_a_half_are_taken() -> None:
    assert json_deserializer(rb'["\ud83e\udd16", "\\ud800"]') == ["🤖", r"\ud800"]


@pytest.mark.parametrize("is_limited", [True, False])
def test_integers_are_bounded_whatever_the_program_allows(
    is_limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python before 3.10.7 had no limit, and a program may lift it: then a megabyte takes 10 s."""
    if not is_limited:
        monkeypatch.setattr(sys, "get_int_max_str_digits", lambda: 0, raising=False)
    longest = "9" * MOST_DIGITS
    assert json_deserializer(longest.encode()) == int(longest)
    assert json_deserializer(b"[" + b"1," * 5_000 + b"1]") == [1] * 5_001
    assert json_serializer(-int("1" * (MOST_DIGITS - 1)))
    with pytest.raises(ValueError, match="digits"):
        json_deserializer(b"-1" + longest.encode())


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 300_000 + b"]" * 300_000, b'[{"a":' * 50_000]


@pytest.mark.parametrize("data", DEEP, ids=lambda data: f"{data[:6]!r}")
def test_data_that_is_nested_too_deep_ends_no_process(data: bytes) -> None:
    """Where a program allows so many levels, Python's parser would run out of stack."""
    program = (
        "import sys\n"
        "sys.setrecursionlimit(10**6)\n"
        "from miros_rabbitmq import json_deserializer\n"
        "try:\n    json_deserializer(sys.stdin.buffer.read())\n"
        "except ValueError as error:\n    print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True
    )
    assert b"deep" in ended.stdout
    with pytest.raises((ValueError, RecursionError)):
        json_deserializer(data)


def test_brackets_in_texts_are_no_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getrecursionlimit", lambda: 10**6)
    value = ["[" * 500, '{"' * 500, "\\" * 3, {"]}": [{}] * 300}]
    assert json_deserializer(json_serializer(value)) == value


@pytest.mark.parametrize("middle", ['\\"' * 500_000, '\\"' * 500_000 + "\\", '"' * 1_000_001])
def test_a_text_that_does_not_end_is_looked_through_once(
    middle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried anew at each of its quotes, it would take hours; 32 KB took ten seconds."""
    monkeypatch.setattr(sys, "getrecursionlimit", lambda: 10**6)
    started = time.process_time()
    with pytest.raises(ValueError, match=r"line 1 column|deep"):
        json_deserializer(f'"{middle}{"[" * 200}'.encode())
    assert time.process_time() - started < scaled(5)


@given(st.text('[]{}",:0123456789.eE+-\\ud8fcatrlsn ', max_size=60) | st.text(max_size=40))
def test_what_comes_out_of_any_text_can_be_used(text: str) -> None:
    """Printed, encoded and sent on."""
    try:
        value = json_deserializer(text.encode())
    except (ValueError, RecursionError):
        return
    repr(value).encode()
    assert json_deserializer(json_serializer(value)) == value
