"""The standard classes that a payload may contain, and how each is rebuilt from a pickle.

Where a pickle names one of these classes, the unpickler does not give it the class but a
`Rebuilder`. A rebuilder makes an object from just the arguments that our own writer uses, so a few
bytes cannot ask for gigabytes. It takes no attributes, so a pickle cannot change a class.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import pickle
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

_SHAPES: dict[type, tuple[tuple[type, ...], ...]] = {
    # For each class, the types of the arguments that it may be rebuilt from.
    bytearray: ((), (bytes,)),
    complex: ((float, float),),
    frozenset: ((list,),),
    range: ((int, int, int),),
    set: ((list,),),
    collections.Counter: ((dict,),),
    collections.OrderedDict: ((),),
    # A deque is empty at first; later opcodes append what it held.
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


def _with_fold(moment: Any) -> Any:
    # Protocol 3 drops the fold, but every Python 3 reads the form of protocol 4, which has it.
    return moment.__reduce_ex__(4) if moment.fold else NotImplemented


def _zone(zone: zoneinfo.ZoneInfo) -> Any:
    return NotImplemented if zone.key is None else (zoneinfo.ZoneInfo, (zone.key,))


OWN_FORMS: dict[type, Callable[[Any], Any]] = {
    # Versions of Python write these two differently.
    uuid.UUID: lambda one: (uuid.UUID, (one.hex,)),
    fractions.Fraction: lambda one: (fractions.Fraction, (one.numerator, one.denominator)),
    datetime.datetime: _with_fold,
    datetime.time: _with_fold,
    # Python writes a call of a function for these two, which have to be registered.
    array.array: lambda one: (array.array, (one.typecode, one.tolist())),
    zoneinfo.ZoneInfo: _zone,
}
"""For some standard classes, what our writer makes of an object: the class and the arguments, or
``NotImplemented`` to write it as Python does."""


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A payload or a pickle contains an object that is not allowed there."""


class Rebuilder:
    """Makes objects of one of these classes, in place of the class, while a pickle is loaded.

    Args:
        cls: the class.
        check: gets the arguments before an object is made of them, and raises to refuse them.
    """

    __slots__ = ("_check", "_cls", "_shapes")

    _cls: type
    _shapes: tuple[tuple[type, ...], ...]
    _check: Callable[[Any], None] | None

    def __init__(self, cls: type, check: Callable[[Any], None] | None = None) -> None:
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_shapes", _SHAPES[cls])
        object.__setattr__(self, "_check", check)

    def __setattr__(self, name: str, value: object) -> None:
        raise ClassRefused(f"a pickle may not set attributes of {self._cls.__qualname__}")

    def __call__(self, *arguments: Any) -> Any:
        for shape in self._shapes:
            if len(arguments) == len(shape) and all(map(isinstance, arguments, shape)):
                if self._check is not None:
                    self._check(*arguments)
                return self._cls(*arguments)
        raise ClassRefused(f"a {self._cls.__qualname__} may not be rebuilt from these arguments")
