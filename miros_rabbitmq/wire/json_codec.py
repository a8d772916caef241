"""A serializer and a deserializer for JSON: recommended for systems that send no Python objects.

::

    from miros_rabbitmq import json_deserializer, json_serializer

    chart = NetworkedActiveObject(..., serializer=json_serializer, deserializer=json_deserializer)

Every node of a system has to use the same pair. The serializer refuses whatever would come back as
something else: bytes, sets, keys that are not text, NaN and infinities. The one exception is the
tuple, which comes back as a list.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 100
"""How deep lists and objects may be nested; the same limit as for pickles."""


def json_serializer(value: Any) -> bytes:
    """Write plain data as JSON in UTF-8; may be called from any thread.

    Raises:
        TypeError: JSON has no form for something in the value.
        ValueError: the value holds NaN or an infinity, contains itself, or is nested more than
            `MAX_DEPTH` deep.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    _check(value, MAX_DEPTH)
    return text.encode()


def json_deserializer(data: bytes) -> Any:
    """Read what `json_serializer` wrote; may be called from any thread.

    Raises:
        ValueError: the data is not JSON, has NaN or an infinity, or is nested more than `MAX_DEPTH`
            deep.
        RecursionError: it is nested so deep that Python's own parser gives up.
    """
    value = json.loads(data.decode(), parse_constant=_refuse)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check(value, MAX_DEPTH)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")


def _check(value: Any, levels: int) -> None:
    """Check keys and depth; the caller knows that everything else has a form in JSON."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"a key is a {type(key).__name__}, which JSON would turn into text")
        inner: Any = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        return
    if not levels:
        raise ValueError(f"lists and objects are nested more than {MAX_DEPTH} deep")
    for item in inner:
        _check(item, levels - 1)
