"""Serializer and deserializer for JSON: recommended where no Python objects have to travel.

::

    from miros_rabbitmq import json_deserializer, json_serializer

    chart = NetworkedActiveObject(..., serializer=json_serializer, deserializer=json_deserializer)

Every node of a system uses the same pair. What would come back as something else is refused to its
sender: bytes, sets, keys that are no text, numbers that are none. The one exception is the tuple,
which comes back as a list.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Lists and objects within each other; the same as for pickles."""


def json_serializer(value: Any) -> bytes:
    """Write plain data as JSON in UTF-8; from any thread.

    Raises:
        TypeError: it holds something that JSON has no form for.
        ValueError: it holds NaN or an infinity, contains itself, or is nested too deeply.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    _check(value, MAX_DEPTH)
    return text.encode()


def json_deserializer(data: bytes) -> Any:
    """Read what `json_serializer` wrote; from any thread.

    Raises:
        ValueError: it is no JSON, has a number that is none, or is nested too deeply.
        RecursionError: it is nested far too deeply.
    """
    value = json.loads(data.decode(), parse_constant=_refuse)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check(value, MAX_DEPTH)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _check(value: Any, levels: int) -> None:
    """Check keys and depth; that the rest has a form in JSON is known."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"a key is a {type(key).__name__}, which JSON would make a text")
        inner: Any = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        return
    if not levels:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    for item in inner:
        _check(item, levels - 1)
