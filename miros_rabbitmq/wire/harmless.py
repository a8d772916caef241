"""The harmless standard classes: which a payload may contain, and what they are rebuilt from.

Where a pickle names one of them, the reader gives it not the class but a `Rebuilder`: it makes an
object from just the arguments our own writer uses, so that a few bytes cannot ask for gigabytes,
and it takes no attributes, so that a pickle cannot change a class.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pickle
import uuid
from collections.abc import Callable
from typing import Any

_SHAPES: dict[type, tuple[tuple[type, ...], ...]] = {
    # For each class, the argument lists it may be rebuilt from.
    bytearray: ((), (bytes,)),
    complex: ((float, float),),
    frozenset: ((list,),),
    range: ((int, int, int),),
    set: ((list,),),
    collections.Counter: ((dict,),),
    collections.OrderedDict: ((),),
    # What a deque held is appended later; here it comes empty.
    collections.deque: ((), (tuple, int)),
    datetime.date: ((bytes,),),
    datetime.datetime: ((bytes,), (bytes, datetime.tzinfo)),
    datetime.time: ((bytes,), (bytes, datetime.tzinfo)),
    datetime.timedelta: ((int, int, int),),
    datetime.timezone: ((datetime.timedelta,), (datetime.timedelta, str)),
    decimal.Decimal: ((str,),),
    fractions.Fraction: ((int, int),),
    uuid.UUID: ((str,),),
}

HARMLESS: tuple[type, ...] = tuple(_SHAPES)
"""What a payload may contain besides None, bool, int, float, str, bytes, tuple, list and dict."""


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A pickle contains, or would contain, something that is not allowed."""


class Rebuilder:
    """Stands for a harmless class in a pickle that is read; takes no attributes.

    Args:
        cls: the class.
        look_at: is given the argument before an object is made of it; may refuse it.
    """

    __slots__ = ("_cls", "_look_at", "_shapes")

    _cls: type
    _shapes: tuple[tuple[type, ...], ...]
    _look_at: Callable[[Any], None] | None

    def __init__(self, cls: type, look_at: Callable[[Any], None] | None = None) -> None:
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_shapes", _SHAPES[cls])
        object.__setattr__(self, "_look_at", look_at)

    def __setattr__(self, name: str, value: object) -> None:
        raise ClassRefused(f"a pickle sets no attributes of {self._cls.__qualname__}")

    def __call__(self, *arguments: Any) -> Any:
        for shape in self._shapes:
            if len(arguments) == len(shape) and all(map(isinstance, arguments, shape)):
                if self._look_at is not None:
                    self._look_at(*arguments)
                return self._cls(*arguments)
        raise ClassRefused(f"a {self._cls.__qualname__} is not rebuilt from such arguments")
