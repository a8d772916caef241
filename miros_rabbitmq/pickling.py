"""Pickle for plain data only: what a payload may contain, checked on writing and on reading.

The writer refuses exactly what the reader would, so that a sender learns of it in its own
``transmit``. Before anything is loaded, `opcodes` has looked at it. The reader imports nothing.
Where a pickle names one of the harmless standard classes, the reader gives it not the class but a
`_Rebuilder`: it makes an object from just the arguments our own writer uses, so that a few bytes
cannot ask for gigabytes, and it takes no attributes, so that a pickle cannot change a class. What
shares one hash is counted before it becomes a set or the keys of a mapping (`_Crowd`), as it would
be compared each with each.
Pickle protocol 3 is the newest that every Python 3 reads.

Source of the technique: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import io
import itertools
import marshal
import operator
import pickle
import uuid
from collections.abc import Iterable
from typing import Any

from .exceptions import SettingsError
from .opcodes import Findings, OpcodeRefused, check_opcodes

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


MAX_COMPARED = 100_000
"""Parts of values, in one message, that equal hashes have compared: some 300 integers of one hash.
It takes 0.05 s to count them, and less to compare them."""


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A pickle contains, or would contain, something that is not allowed."""


class _CrowdRefused(ClassRefused):
    """Too much of it shares one hash."""


_SETS = (set, frozenset)
_FEW_BYTES = 1_024
"""No crowd has room in so few."""
_FOLDED = (datetime.datetime, datetime.time)

_SIMPLE = frozenset((int, float, str, bytes, bool, type(None), tuple, frozenset))
_OBJECT_PARTS = 20
"""As how many parts a Fraction counts that is compared: the slowest of all."""


class _Crowd:
    """What equal hashes have compared in one message."""

    def __init__(self) -> None:
        self._left = MAX_COMPARED

    def look_at(self, members: Iterable[Any]) -> None:
        """Count what becomes the members of a set, or the keys of a mapping.

        Raises:
            ClassRefused: too much of it has the same hash.
            TypeError: something has none.
        """
        for group in _of_one_hash(members):
            for member in group:
                self._compare(member, len(group) - 1)

    def _compare(self, value: Any, times: int) -> None:
        cls = type(value)
        self._left -= times if cls in _SIMPLE else times * _OBJECT_PARTS
        if self._left < 0:
            raise _CrowdRefused(
                "too many keys of mappings or members of sets share one hash; a list, of pairs "
                "too, may have them"
            )
        if cls is tuple:
            for part in value:
                self._compare(part, times)
        elif cls is frozenset:
            for part in value:
                self._compare(part, times)
            for group in _of_one_hash(value):
                for part in group:
                    self._compare(part, times * (len(group) - 1))


def _of_one_hash(members: Iterable[Any]) -> list[list[Any]]:
    """The groups of two and more."""
    # In order, and not in a set: the hashes are numbers of somebody's choice, too.
    hashes = sorted(map(hash, members))
    if not any(map(operator.eq, hashes, hashes[1:])):
        return []
    groups = (list(group) for _, group in itertools.groupby(sorted(members, key=hash), hash))
    return [group for group in groups if len(group) > 1]


class _Keys(dict[Any, Any]):
    """In place of a mapping, to see its keys before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_set: list[Any] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.keys_set.append(key)


class _Stranger(datetime.tzinfo):
    """In place of a registered class: takes what its objects do, and stands for a time zone."""

    def __new__(cls, *_: Any) -> _Stranger:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def utcoffset(self, _: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


_KEYS = f"c{__name__}\n{_Keys.__qualname__}\n)R".encode()
"""The opcodes that make an empty one."""
_ORDERED_OR_KEYS = (("collections", "OrderedDict"), (__name__, _Keys.__qualname__))


class _Rebuilder:
    """Stands for a harmless class in a pickle that is read; takes no attributes."""

    __slots__ = ("_cls", "_crowd", "_shapes")

    _cls: type
    _shapes: tuple[tuple[type | tuple[type, ...], ...], ...]
    _crowd: _Crowd | None

    def __init__(self, cls: type, crowd: _Crowd | None = None) -> None:
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_shapes", _HARMLESS[cls])
        object.__setattr__(self, "_crowd", crowd)

    def __setattr__(self, name: str, value: object) -> None:
        raise ClassRefused(f"a pickle sets no attributes of {self._cls.__qualname__}")

    def __call__(self, *arguments: Any) -> Any:
        for shape in self._shapes:
            if len(arguments) == len(shape) and all(map(isinstance, arguments, shape)):
                if self._crowd is not None:
                    self._crowd.look_at(*arguments)
                return self._cls(*arguments)
        raise ClassRefused(f"a {self._cls.__qualname__} is not rebuilt from such arguments")


class RestrictedPickle:
    """A serializer and a deserializer that take plain data and a list of exact classes.

    May be used from any thread.

    Args:
        allowed_classes: classes beyond `HARMLESS`; register the same on every node. A class is
            known by module and name, so both sides import it from the same place. To register a
            class is to trust every holder of the key with whatever its construction, and the
            hash of its objects, can do.

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
        by_name: dict[tuple[str, str], type | _Rebuilder] = {
            (cls.__module__, cls.__qualname__): cls for cls in registered
        }
        # These last: whoever registers one of them does not take its guard away.
        by_name.update({(cls.__module__, cls.__qualname__): _Rebuilder(cls) for cls in HARMLESS})
        # For each message anew: what it may compare is counted.
        sets = {(cls.__module__, cls.__qualname__): cls for cls in _SETS}
        for key in sets:
            del by_name[key]

        class Writer(pickle.Pickler):
            has_sets = False
            uses = 0  # of classes that have been written before, if none stands as a value

            def reducer_override(self, obj: Any) -> Any:
                cls = obj if isinstance(obj, type) else type(obj)
                if cls not in allowed:
                    raise ClassRefused(_refusal(cls))
                if obj is cls:
                    self.uses -= 1
                    self.has_sets = self.has_sets or cls in _SETS  # it does not ask about a set
                    return NotImplemented
                self.uses += 1
                # These two are written differently by different versions of Python.
                if cls is uuid.UUID:
                    return uuid.UUID, (obj.hex,)
                if cls is fractions.Fraction:
                    return fractions.Fraction, (obj.numerator, obj.denominator)
                # Every Python 3 reads the form that has the fold, though protocol 3 has it not.
                if cls in _FOLDED and obj.fold:
                    return obj.__reduce_ex__(4)
                return NotImplemented

        class Reader(pickle.Unpickler):
            crowd: _Crowd | None = None

            def find_class(self, module: str, name: str) -> Any:
                found = by_name.get((module, name))
                if found is not None:
                    return found
                cls = sets.get((module, name))
                if cls is None:
                    raise ClassRefused(f"{module}.{name} is not an allowed class")
                self.crowd = self.crowd or _Crowd()
                return _Rebuilder(cls, self.crowd)

        class KeysReader(Reader):
            """Makes no mapping, and no object of a registered class."""

            def __init__(self, data: bytes) -> None:
                super().__init__(io.BytesIO(data))
                self.mappings: list[_Keys] = []

            def find_class(self, module: str, name: str) -> Any:
                if (module, name) in _ORDERED_OR_KEYS:
                    return self._make
                found = super().find_class(module, name)
                return found if isinstance(found, _Rebuilder) else _Stranger

            def _make(self) -> _Keys:
                keys = _Keys()
                self.mappings.append(keys)
                return keys

        self._writer = Writer
        self._reader = Reader
        self._keys_reader = KeysReader
        self._registered = frozenset(
            f"c{cls.__module__}\n{cls.__qualname__}\n".encode()
            for cls in registered
            if cls not in _HARMLESS
        )

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
            if self._check(data).is_plain:
                return data
        except Exception:  # noqa: BLE001, S110 - the writer raises it again, with the remedy
            pass
        buffer = io.BytesIO()
        writer = self._writer(buffer, PROTOCOL)
        try:
            writer.dump(value)
            written = buffer.getvalue()
            found = self._check(written, shares=writer.uses)
            if writer.has_sets and not found.has_strange_keys and len(written) > _FEW_BYTES:
                self._look_at_keys(written, ())
        except (OpcodeRefused, _CrowdRefused) as error:
            raise ClassRefused(
                f"receivers would refuse the payload ({error}): send plainer data, or give a "
                "serializer and a deserializer"
            ) from error
        return written

    def loads(self, data: bytes) -> Any:
        """Restore what `dumps` wrote; looks up only the allowed classes.

        Raises:
            Exception: of any kind, as malformed pickles raise; the caller has to catch all.
        """
        if self._check(data).is_plain:
            # Nothing in it looks a class up: there is nothing that the reader would be asked for,
            # and it takes five times as long.
            return pickle.loads(data)
        return self._reader(io.BytesIO(data)).load()

    def _check(self, data: bytes, shares: int | None = None) -> Findings:
        found = check_opcodes(data, registered=self._registered, shares=shares)
        if found.has_strange_keys:
            self._look_at_keys(data, found.strange_at)
        return found

    def _look_at_keys(self, data: bytes, places: Iterable[int]) -> None:
        """Load the pickle with something else in place of these mappings."""
        pieces: list[bytes] = []
        begin = 0
        for at in places:
            pieces += data[begin:at], _KEYS
            begin = at + 1
        reader = self._keys_reader(b"".join([*pieces, data[begin:]]))
        reader.load()
        crowd = reader.crowd or _Crowd()
        for mapping in reader.mappings:
            crowd.look_at(mapping.keys_set)


def _refusal(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"a payload may not contain {name}: send plain data, or register the class on every node "
        f"with allowed_classes=[{cls.__qualname__}], or give a serializer and a deserializer"
    )
