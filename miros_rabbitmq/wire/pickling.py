"""Pickle for plain data only: what a payload may contain, checked on writing and on reading.

The writer refuses exactly what the reader would, so that a sender learns of it in its own
``transmit``. Before anything is loaded, `opcodes` has looked at it. The reader imports nothing:
for each of the `harmless` standard classes it has something that makes just what our own writer
writes. What shares one hash is counted before it becomes a set or the keys of a mapping (`crowds`),
as it would be compared each with each.
Pickle protocol 3 is the newest that every Python 3 reads.

Source of the technique: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import datetime
import fractions
import io
import marshal
import pickle
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from ..exceptions import SettingsError
from .crowds import CrowdRefused
from .harmless import HARMLESS, ClassRefused, Rebuilder
from .opcodes import Findings, OpcodeRefused, check_opcodes
from .pickle_readers import SETS, Name, Reader, check_keys

__all__ = ["HARMLESS", "PROTOCOL", "ClassRefused", "RestrictedPickle"]

PROTOCOL = 3

FEW_BYTES = 1_024
"""No crowd has room in so few."""
_FOLDED = (datetime.datetime, datetime.time)


def _name_of(cls: type) -> Name:
    return cls.__module__, cls.__qualname__


_REBUILDERS = {_name_of(cls): Rebuilder(cls) for cls in HARMLESS}


class _Writer(pickle.Pickler):
    """Takes objects of the allowed classes alone, and of plain types."""

    def __init__(self, file: io.BytesIO, allowed: Collection[type]) -> None:
        super().__init__(file, PROTOCOL)
        self._allowed = allowed
        self.has_sets = False
        self.uses = 0
        """Of classes that have been written before, if none stands as a value."""

    def reducer_override(self, obj: Any) -> Any:
        cls = obj if isinstance(obj, type) else type(obj)
        if cls not in self._allowed:
            raise ClassRefused(_refusal(cls))
        if obj is cls:
            self.uses -= 1
            self.has_sets = self.has_sets or cls in SETS  # it does not ask about a set
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
        self._allowed = frozenset((*HARMLESS, *registered))
        # The harmless last: whoever registers one of them does not take its guard away.
        self._by_name = {_name_of(cls): cls for cls in registered} | _REBUILDERS
        self._registered = frozenset(
            f"c{cls.__module__}\n{cls.__qualname__}\n".encode()
            for cls in registered
            if cls not in HARMLESS
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
        writer = _Writer(buffer, self._allowed)
        try:
            writer.dump(value)
            written = buffer.getvalue()
            found = self._check(written, shares=writer.uses)
            if writer.has_sets and not found.has_strange_keys and len(written) > FEW_BYTES:
                check_keys(written, (), self._by_name)
        except (OpcodeRefused, CrowdRefused) as error:
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
        return Reader(data, self._by_name).load()

    def _check(self, data: bytes, shares: int | None = None) -> Findings:
        found = check_opcodes(data, registered=self._registered, shares=shares)
        if found.has_strange_keys:
            check_keys(data, found.strange_at, self._by_name)
        return found


def _refusal(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"a payload may not contain {name}: send plain data, or register the class on every node "
        f"with allowed_classes=[{cls.__qualname__}], or give a serializer and a deserializer"
    )
