"""A serializer and a deserializer for JSON: recommended for systems that send no Python objects.

::

    from miros_rabbitmq import json_deserializer, json_serializer

    chart = NetworkedActiveObject(..., serializer=json_serializer, deserializer=json_deserializer)

Every node of a system has to use the same pair. The serializer refuses whatever would come back as
something else: bytes, sets, keys that are not text, NaN and infinities. The one exception is the
tuple, which comes back as a list. What the deserializer returns can be printed, encoded and
serialized again: it refuses numbers beyond a float's range, integers of more digits than Python
prints, and halves of surrogate pairs. Of two equal keys in an object, the later one counts.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any, NoReturn

from ..wording import a_value_of
from .opcodes import HALF_PAIR_REFUSED

MAX_DEPTH = 100
"""How deep lists and objects may be nested; the same limit as for pickles."""

MOST_DIGITS = 4_300
"""The most digits of an integer. Python reads and prints no more by default, since that takes time
that grows with the square of their number."""

_MOST_BITS = int(MOST_DIGITS * math.log2(10))

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
"""How half of a surrogate pair may begin in JSON; also how a whole one does."""

_SAFE_RECURSION = 5_000
"""Python's parser of JSON is called anew for each level. Where a program allows more levels than
this, it could run out of stack, which ends the process."""

_MARK = re.compile(r'\\.|["\[{\]}]', re.DOTALL)
"""What begins and ends texts, lists and objects, or is escaped and does not. No longer than that: a
pattern for a whole text would be tried anew at every quote in one that does not end."""


def json_serializer(value: Any) -> bytes:
    """Write plain data as JSON in UTF-8; may be called from any thread.

    Args:
        value: numbers, texts, `True`, `False`, `None`, and lists, tuples and dictionaries of them.

    Raises:
        TypeError: JSON has no form for something in the value.
        ValueError: the value holds NaN or an infinity, an integer of more than 4,300
            digits, or a text with half of a surrogate pair; it contains itself, or is nested more
            than 100 deep.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    _check(value, MAX_DEPTH)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(HALF_PAIR_REFUSED) from None


def json_deserializer(data: bytes) -> Any:
    """Read what `json_serializer` wrote; may be called from any thread.

    Args:
        data: JSON in UTF-8.

    Raises:
        ValueError: the data is not JSON in UTF-8, or has what `json_serializer` refuses.
        RecursionError: it is nested so deep that Python's own parser gives up.
    """
    text = data.decode()
    may_be_deep = data.count(b"[") + data.count(b"{") > MAX_DEPTH
    if may_be_deep and sys.getrecursionlimit() > _SAFE_RECURSION:
        _check_depth(text)
    may_be_long = len(data) > MOST_DIGITS and not 0 < _most_digits() <= MOST_DIGITS
    value = json.loads(
        text,
        parse_constant=_refuse,
        parse_float=_finite,
        parse_int=_bounded if may_be_long else None,
    )
    if may_be_deep:
        _check(value, MAX_DEPTH)
    if b"\\u" in data and _HALF_PAIR.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(HALF_PAIR_REFUSED) from None
    return value


def _most_digits() -> int:
    """So many digits of an integer does Python read; 0 for any number."""
    # Python has this since 3.10.7.
    return getattr(sys, "get_int_max_str_digits", int)()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is beyond the range of a float")
    return value


def _bounded(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"an integer has more than {MOST_DIGITS:,} digits")
    return int(text)


def _check_depth(text: str) -> None:
    """Check how deep a text is nested, without a call for each level."""
    levels = 0
    is_in_text = False
    for mark in _MARK.finditer(text):
        sign = mark[0]
        if sign == '"':
            is_in_text = not is_in_text
        elif is_in_text:
            continue
        elif sign in "[{":
            levels += 1
            if levels > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
        elif sign in "]}":
            levels -= 1


_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _check(value: Any, levels: int) -> None:
    """Check keys, depth and integers; the caller knows that all else has a form in JSON."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"a key is {a_value_of(key)}, which JSON would turn into text")
        inner: Any = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError(f"an integer has more than {MOST_DIGITS:,} digits: send it as text")
    else:
        return
    if not levels:
        raise ValueError(_TOO_DEEP)
    for item in inner:
        _check(item, levels - 1)
