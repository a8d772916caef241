"""What loads a pickle with the allowed classes alone, and what looks at its keys before that."""

from __future__ import annotations

import datetime
import io
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from .crowds import Crowd
from .harmless import ClassRefused, Rebuilder

Name = tuple[str, str]
"""Module and qualified name, as a pickle has them."""

SETS = (set, frozenset)
_SETS = {(cls.__module__, cls.__qualname__): cls for cls in SETS}


class Reader(pickle.Unpickler):
    """Takes plain data, sets, and the classes it is given.

    Args:
        data: the pickle.
        classes: each by its name, a harmless one as its `Rebuilder`; sets need not be among them.
    """

    def __init__(self, data: bytes, classes: Mapping[Name, type | Rebuilder]) -> None:
        super().__init__(io.BytesIO(data))
        self._classes = classes
        self._crowd: Crowd | None = None

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class."""
        # For each message anew: what its sets may compare is counted.
        if (cls := _SETS.get((module, name))) is not None:
            return Rebuilder(cls, self.crowd().look_at)
        found = self._classes.get((module, name))
        if found is None:
            raise ClassRefused(f"{module}.{name} is not an allowed class")
        return found

    def crowd(self) -> Crowd:
        """Return what counts the members of this pickle's sets."""
        self._crowd = self._crowd or Crowd()
        return self._crowd


def check_keys(
    data: bytes, places: Iterable[int], classes: Mapping[Name, type | Rebuilder]
) -> None:
    """Load a pickle with something else in place of these mappings, and of ordered ones.

    Args:
        data: the pickle.
        places: where the opcodes of the mappings stand, in order.
        classes: as a `Reader` has them.

    Raises:
        Exception: of any kind, as malformed pickles raise; `ClassRefused` if too many keys of
            mappings, or members of sets, share one hash.
    """
    pieces: list[bytes] = []
    begin = 0
    for at in places:
        pieces += data[begin:at], _KEYS
        begin = at + 1
    reader = _KeysReader(b"".join([*pieces, data[begin:]]), classes)
    reader.load()
    for mapping in reader.mappings:
        reader.crowd().look_at(mapping.keys_set)


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


class _KeysReader(Reader):
    """Makes no mapping, and no object of a registered class."""

    def __init__(self, data: bytes, classes: Mapping[Name, type | Rebuilder]) -> None:
        super().__init__(data, classes)
        self.mappings: list[_Keys] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ORDERED_OR_KEYS:
            return self._make
        found = super().find_class(module, name)
        return found if isinstance(found, Rebuilder) else _Stranger

    def _make(self) -> _Keys:
        keys = _Keys()
        self.mappings.append(keys)
        return keys
