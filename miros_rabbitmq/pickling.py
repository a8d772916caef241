"""Pickle for plain data only: what a payload may contain, checked on writing and on reading.

The writer refuses exactly what the reader would, so that a sender learns of it in its own
``transmit``. The reader looks up no class outside the list; it imports nothing. Pickle protocol
3 is the newest that every Python 3 reads.

Source of the technique: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import io
import pickle
import uuid
from collections.abc import Callable, Iterable
from typing import Any

PROTOCOL = 3

HARMLESS: tuple[type, ...] = (
    bytearray,
    complex,
    frozenset,
    range,
    set,
    collections.Counter,
    collections.OrderedDict,
    collections.deque,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
)
"""What a payload may contain besides None, bool, int, float, str, bytes, tuple, list and dict."""


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A pickle contains, or would contain, something that is not allowed."""


class RestrictedPickle:
    """A serializer and a deserializer that take plain data and a list of exact classes.

    May be used from any thread.

    Args:
        allowed_classes: classes beyond `HARMLESS`; register the same on every node. A class is
            known by module and name, so both sides import it from the same place.
    """

    def __init__(self, allowed_classes: Iterable[type] = ()) -> None:
        allowed = frozenset((*HARMLESS, *allowed_classes))
        by_name: dict[tuple[str, str], Callable[..., Any]] = {
            (cls.__module__, cls.__qualname__): cls for cls in allowed
        }
        by_name["builtins", "bytearray"] = _bytearray_of_bytes

        class Writer(pickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                cls = obj if isinstance(obj, type) else type(obj)
                if cls not in allowed:
                    raise ClassRefused(_refusal(cls))
                return NotImplemented

        class Reader(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                try:
                    return by_name[module, name]
                except KeyError:
                    raise ClassRefused(f"{module}.{name} is not an allowed class") from None

        self._writer = Writer
        self._reader = Reader

    def dumps(self, value: Any) -> bytes:
        """Serialize plain data.

        Raises:
            ClassRefused: the value contains an object of another class; the text names the class
                and the remedy.
        """
        buffer = io.BytesIO()
        self._writer(buffer, PROTOCOL).dump(value)
        return buffer.getvalue()

    def loads(self, data: bytes) -> Any:
        """Restore what `dumps` wrote; looks up only the allowed classes.

        Raises:
            Exception: of any kind, as malformed pickles raise; the caller has to catch all.
        """
        return self._reader(io.BytesIO(data)).load()


def _refusal(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"a payload may not contain {name}: send plain data, or register the class on every node "
        f"with allowed_classes=[{cls.__qualname__}], or give a serializer and a deserializer"
    )


def _bytearray_of_bytes(content: bytes = b"", *rest: object) -> bytearray:
    """Rebuild a bytearray from bytes alone: from a number it would allocate that many."""
    if rest or not isinstance(content, bytes):
        raise ClassRefused("a bytearray is rebuilt from bytes alone")
    return bytearray(content)
