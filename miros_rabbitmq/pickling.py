"""Pickle for plain data only: what a payload may contain, checked on writing and on reading.

The writer refuses exactly what the reader would, so that a sender learns of it in its own
``transmit``. Before anything is loaded, `opcodes` has looked at it. The reader imports nothing.
Where a pickle names one of the harmless standard classes, the reader gives it not the class but a
`_Rebuilder`: it makes an object from just the arguments our own writer uses, so that a few bytes
cannot ask for gigabytes, and it takes no attributes, so that a pickle cannot change a class.
Pickle protocol 3 is the newest that every Python 3 reads.

Source of the technique: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import io
import marshal
import pickle
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from .exceptions import SettingsError
from .opcodes import OpcodeRefused, check_opcodes

PROTOCOL = 3

_HARMLESS: dict[type, tuple[tuple[type | tuple[type, ...], ...], ...]] = {
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

HARMLESS: tuple[type, ...] = tuple(_HARMLESS)
"""What a payload may contain besides None, bool, int, float, str, bytes, tuple, list and dict."""


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A pickle contains, or would contain, something that is not allowed."""


class _Rebuilder:
    """Stands for a harmless class in a pickle that is read; takes no attributes."""

    __slots__ = ("_cls", "_shapes")

    _cls: type
    _shapes: tuple[tuple[type | tuple[type, ...], ...], ...]

    def __init__(self, cls: type, shapes: tuple[tuple[type | tuple[type, ...], ...], ...]) -> None:
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_shapes", shapes)

    def __setattr__(self, name: str, value: object) -> None:
        raise ClassRefused(f"a pickle sets no attributes of {self._cls.__qualname__}")

    def __call__(self, *arguments: Any) -> Any:
        for shape in self._shapes:
            if len(arguments) == len(shape) and all(map(isinstance, arguments, shape)):
                return self._cls(*arguments)
        raise ClassRefused(f"a {self._cls.__qualname__} is not rebuilt from such arguments")


class RestrictedPickle:
    """A serializer and a deserializer that take plain data and a list of exact classes.

    May be used from any thread.

    Args:
        allowed_classes: classes beyond `HARMLESS`; register the same on every node. A class is
            known by module and name, so both sides import it from the same place. To register a
            class is to trust every holder of the key with whatever its construction can do.

    Raises:
        SettingsError: a class is defined inside another or inside a function.
    """

    def __init__(self, allowed_classes: Iterable[type] = ()) -> None:
        registered = tuple(allowed_classes)
        for cls in registered:
            if "." in cls.__qualname__:
                raise SettingsError(
                    f"allowed_classes: {cls.__qualname__} has to stand at the top of its module, "
                    "where the other side finds it by its name"
                )
        allowed = frozenset((*HARMLESS, *registered))
        by_name: dict[tuple[str, str], Callable[..., Any]] = {
            (cls.__module__, cls.__qualname__): _Rebuilder(cls, shapes)
            for cls, shapes in _HARMLESS.items()
        }
        by_name.update({(cls.__module__, cls.__qualname__): cls for cls in registered})

        class Writer(pickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                cls = obj if isinstance(obj, type) else type(obj)
                if cls not in allowed:
                    raise ClassRefused(_refusal(cls))
                # These two are written differently by different versions of Python.
                if cls is uuid.UUID and obj is not cls:
                    return uuid.UUID, (obj.hex,)
                if cls is fractions.Fraction and obj is not cls:
                    return fractions.Fraction, (obj.numerator, obj.denominator)
                return NotImplemented

        class Reader(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                try:
                    return by_name[module, name]
                except KeyError:
                    raise ClassRefused(f"{module}.{name} is not an allowed class") from None

        self._writer = Writer
        self._reader = Reader
        self._has_objects = bool(registered)

    def dumps(self, value: Any) -> bytes:
        """Serialize plain data.

        Raises:
            ClassRefused: the value contains an object of another class, or goes beyond a bound of
                `opcodes`; the text names the class or the bound, and the remedy.
        """
        # Plain data takes a third of the time without the writer. marshal takes the built-in types
        # alone, none of their subclasses, and calls nothing that a value brings: no __reduce__ runs
        # here. That it was right is seen in the result, which is then what the writer would make:
        # all that is not of the plain types is written with a class to look up, or with a call.
        try:
            marshal.dumps(value)
            data = pickle.dumps(value, PROTOCOL)
            if check_opcodes(data, objects=self._has_objects):
                return data
        except Exception:  # noqa: BLE001, S110 - the writer raises it again, with the remedy
            pass
        buffer = io.BytesIO()
        self._writer(buffer, PROTOCOL).dump(value)
        data = buffer.getvalue()
        try:
            check_opcodes(data, objects=self._has_objects)
        except OpcodeRefused as error:
            raise ClassRefused(
                f"receivers would refuse the payload ({error}): send plainer data, or give a "
                "serializer and a deserializer"
            ) from error
        return data

    def loads(self, data: bytes) -> Any:
        """Restore what `dumps` wrote; looks up only the allowed classes.

        Raises:
            Exception: of any kind, as malformed pickles raise; the caller has to catch all.
        """
        if check_opcodes(data, objects=self._has_objects):
            # Nothing in it looks a class up: there is nothing that the reader would be asked for,
            # and it takes five times as long.
            return pickle.loads(data)
        return self._reader(io.BytesIO(data)).load()


def _refusal(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"a payload may not contain {name}: send plain data, or register the class on every node "
        f"with allowed_classes=[{cls.__qualname__}], or give a serializer and a deserializer"
    )
