"""Loads a pickle that `pickle_check` has passed: allowed classes only, and few equal hashes.

Python compares a key with every other key of the same hash. A sender who chooses keys of one hash
makes the time to build a mapping or a set grow with the square of their number. `Collisions` counts
these comparisons before Python makes them: those of a set when the unpickler is about to build it,
and those of mappings in a pass of its own before anything else is loaded, `check_key_hashes`.
"""

from __future__ import annotations

import collections
import datetime
import io
import itertools
import operator
import pickle
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .opcodes import OpcodeRefused, replace_mappings
from .payload_types import HARMLESS, ClassRefused, Rebuilder
from .pickle_cost import Budget

STEPS_PER_COMPARED = 8
"""The steps for each part of a value that is compared because of equal hashes. So a whole budget is
enough for some 300 integers of one hash. To count all these takes 0.05 s, and to compare them takes
less."""

_SIMPLE = frozenset((int, float, str, bytes, bool, type(None), tuple, frozenset))
_OBJECT_PARTS = 20
"""A comparison of two objects counts as that of so many parts. Fractions are the slowest, and take
as long as this."""

Name = tuple[str, str]
"""Module and qualified name of a class, as a pickle has them."""

SETS = (set, frozenset)
_HASHING = (*SETS, collections.Counter)
_HARMLESS = {(cls.__module__, cls.__qualname__): cls for cls in HARMLESS}


class CollisionRefused(ClassRefused):
    """Too many keys of mappings, or members of sets, share one hash."""


class Collisions:
    """Counts the comparisons that equal hashes cause in one message.

    Args:
        budget: pays for them, and for members of sets that are neither text nor bytes.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def count_members(self, members: list[Any] | dict[Any, Any]) -> None:
        """Count the future members of one set or of one Counter.

        Raises:
            CollisionRefused: too many have one hash, with all that was counted before.
            OpcodeRefused: too many are neither text nor bytes.
            TypeError: one of them cannot be hashed.
        """
        kinds = list(map(type, members))
        numbers = len(kinds) - kinds.count(str) - kinds.count(bytes)
        if numbers > 1:
            self._budget.take_squares(numbers * numbers // (4 if isinstance(members, list) else 1))
            self.count(members)

    def count(self, members: Iterable[Any]) -> None:
        """Count those of the future members of one set, or keys of one mapping.

        Raises:
            CollisionRefused: it is too much, with all that was counted before.
            TypeError: one of them cannot be hashed.
        """
        for group in _groups_of_one_hash(members):
            for member in group:
                self._compare(member, len(group) - 1)

    def _compare(self, value: Any, times: int) -> None:
        cls = type(value)
        parts = times if cls in _SIMPLE else times * _OBJECT_PARTS
        try:
            self._budget.take_steps(parts * STEPS_PER_COMPARED)
        except OpcodeRefused:
            raise CollisionRefused(
                "too many keys of mappings or members of sets share one hash: "
                "put them into a list, or into a list of pairs"
            ) from None
        if cls is tuple:
            for part in value:
                self._compare(part, times)
        elif cls is frozenset:
            for part in value:
                self._compare(part, times)
            for group in _groups_of_one_hash(value):
                for part in group:
                    self._compare(part, times * (len(group) - 1))


def _groups_of_one_hash(members: Iterable[Any]) -> list[list[Any]]:
    """Return each group of two or more members that have the same hash."""
    # Sorted, not put into a set: a sender may choose numbers so that even their hashes collide.
    hashes = sorted(map(hash, members))
    if not any(map(operator.eq, hashes, hashes[1:])):
        return []
    groups = (list(group) for _, group in itertools.groupby(sorted(members, key=hash), hash))
    return [group for group in groups if len(group) > 1]


class RestrictedUnpickler(pickle.Unpickler):
    """Loads one pickle of plain data, and objects of the harmless and of the given classes.

    Args:
        data: the pickle.
        registered: each further class that is allowed, by its name.
        budget: what is left for loading it; by default, all that a pickle of its size has.
    """

    def __init__(
        self, data: bytes, registered: Mapping[Name, type], budget: Budget | None = None
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._registered = registered
        self._budget = budget or Budget(len(data))
        self.collisions: Collisions = Collisions(self._budget)
        """Counts the comparisons of this message."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class; pickle calls this.

        Raises:
            ClassRefused: the class is not allowed.
        """
        if (cls := _HARMLESS.get((module, name))) is not None:
            hashing = self.collisions.count_members if cls in _HASHING else None
            return Rebuilder(cls, self._budget, hashing)
        found = self._registered.get((module, name))
        if found is None:
            path = f"{module}.{name}"
            shown = path if path.isprintable() else repr(path)  # it goes into the log
            raise ClassRefused(f"{shown} is not an allowed class{self._hint(module, name)}")
        return found

    def _hint(self, module: str, name: str) -> str:
        twins = [f"{there}.{name}" for there, one in (*_HARMLESS, *self._registered) if one == name]
        if twins:
            return (
                f", but {twins[0]} is: put the class into a module that both sides import by the "
                "same name"
            )
        if module == "__main__":
            return (
                ": its sender has it in its main program. Put it into a module that both programs "
                "import, and give allowed_classes=[...] in both"
            )
        return ": if it is yours, give allowed_classes=[...] here, too"


def check_key_hashes(
    data: bytes,
    mappings: Collection[int],
    registered: Mapping[Name, type],
    budget: Budget | None = None,
) -> None:
    """Refuse a pickle in which too many keys of mappings, or members of sets, share one hash.

    It loads the pickle with a recorder of keys in place of these mappings, and of all ordered ones.

    Args:
        data: the pickle.
        mappings: which of the opcodes that make a mapping make these, counted from 1.
        registered: as for `RestrictedUnpickler`.
        budget: the same. Steps are taken from it; memory is free again afterwards.

    Raises:
        CollisionRefused: too many share one hash.
        Exception: of any kind, as for any malformed pickle.
    """
    budget = budget or Budget(len(data))
    memory = budget.memory
    unpickler = _KeyUnpickler(replace_mappings(data, mappings, _MAKE_RECORDER), registered, budget)
    unpickler.load()
    budget.memory = memory
    for recorder in unpickler.recorders:
        unpickler.collisions.count(recorder.keys_set)


class _KeyRecorder(dict[Any, Any]):
    """Takes the place of a mapping: keeps a list of its keys, and never hashes one."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_set: list[Any] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.keys_set.append(key)


class _Placeholder(datetime.tzinfo):
    """Takes the place of a registered class: accepts whatever a pickle does with its objects.

    It is a time zone, as a registered class may be one, and a datetime takes nothing else.
    """

    def __new__(cls, *_: Any) -> _Placeholder:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def utcoffset(self, _: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


_MAKE_RECORDER = f"c{__name__}\n{_KeyRecorder.__qualname__}\n)R".encode()
"""The opcodes that make a recorder, in place of the one that makes a mapping."""
_RECORDED = (("collections", "OrderedDict"), (__name__, _KeyRecorder.__qualname__))


class _KeyUnpickler(RestrictedUnpickler):
    """Makes recorders of keys, and no object of a registered class."""

    def __init__(
        self, data: bytes, registered: Mapping[Name, type], budget: Budget | None = None
    ) -> None:
        super().__init__(data, registered, budget)
        self.recorders: list[_KeyRecorder] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _RECORDED:
            return self._make_recorder
        found = super().find_class(module, name)
        return found if isinstance(found, Rebuilder) else _Placeholder

    def _make_recorder(self) -> _KeyRecorder:
        recorder = _KeyRecorder()
        self.recorders.append(recorder)
        return recorder
