"""Pickle for plain data: what a payload may contain, checked on writing and on reading.

`RestrictedPickle` is the default serializer and deserializer. Its writer refuses exactly what its
reader would, so a sender learns of a payload that cannot travel in its own ``transmit``. Before
anything is loaded, `pickle_check` has looked at every opcode. `unpickler` loads the pickle and
imports nothing; `payload_types` lists the standard classes that a payload may contain.

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
from .opcodes import OpcodeRefused
from .payload_types import HARMLESS, ClassRefused, Rebuilder
from .pickle_check import Findings, check_opcodes
from .unpickler import SETS, CollisionRefused, Name, RestrictedUnpickler, check_key_hashes

__all__ = ["HARMLESS", "PROTOCOL", "ClassRefused", "OpcodeRefused", "RestrictedPickle"]

PROTOCOL = 3

FEW_BYTES = 1_024
"""A pickle of up to so many bytes has no room for keys that take long to compare."""
_FOLDED = (datetime.datetime, datetime.time)


def _name_of(cls: type) -> Name:
    return cls.__module__, cls.__qualname__


_REBUILDERS = {_name_of(cls): Rebuilder(cls) for cls in HARMLESS}


class _Writer(pickle.Pickler):
    """Writes one pickle of plain data and objects of the allowed classes.

    Args:
        file: where it goes.
        allowed: exactly these classes, not their subclasses.
    """

    def __init__(self, file: io.BytesIO, allowed: Collection[type]) -> None:
        super().__init__(file, PROTOCOL)
        self._allowed = allowed
        self.has_sets = False
        self.uses = 0
        """How often the pickle takes a class from the memo, if none is a value in it."""

    def reducer_override(self, obj: Any) -> Any:
        """Say how to write an object that is not plain, or a class; pickle calls this.

        Raises:
            ClassRefused: the class is not allowed.
        """
        cls = obj if isinstance(obj, type) else type(obj)
        if cls not in self._allowed:
            raise ClassRefused(_refusal(cls))
        if obj is cls:
            self.uses -= 1
            self.has_sets = self.has_sets or cls in SETS  # pickle asks about the class only
            return NotImplemented
        self.uses += 1
        # Versions of Python write these two differently.
        if cls is uuid.UUID:
            return uuid.UUID, (obj.hex,)
        if cls is fractions.Fraction:
            return fractions.Fraction, (obj.numerator, obj.denominator)
        # Protocol 3 drops the fold, but every Python 3 reads the form of protocol 4, which has it.
        if cls in _FOLDED and obj.fold:
            return obj.__reduce_ex__(4)
        return NotImplemented


class RestrictedPickle:
    """A serializer and a deserializer for plain data and objects of some exact classes.

    May be used from any thread.

    Args:
        allowed_classes: classes that a payload may contain besides `HARMLESS`; register the same
            classes on every node. A pickle names a class by module and name, so both sides must be
            able to import it from the same place. Registering a class lets every holder of
            the key run its constructor and the hash method of its objects.

    Raises:
        SettingsError: a class is defined inside another or inside a function.
    """

    def __init__(self, allowed_classes: Iterable[type] = ()) -> None:
        registered = tuple(allowed_classes)
        for cls in registered:
            if "." in cls.__qualname__:
                raise SettingsError(
                    f"allowed_classes: {cls.__qualname__} must be defined at the top level of its "
                    "module, where the other side finds it by name"
                )
        self._allowed = frozenset((*HARMLESS, *registered))
        # The rebuilders go last: a standard class that is also registered keeps its rebuilder.
        self._by_name = {_name_of(cls): cls for cls in registered} | _REBUILDERS
        self._registered = frozenset(
            f"c{cls.__module__}\n{cls.__qualname__}\n".encode()
            for cls in registered
            if cls not in HARMLESS
        )

    def dumps(self, value: Any) -> bytes:
        """Serialize plain data.

        Raises:
            ClassRefused: the value contains an object of another class, or goes beyond a limit of
                `pickle_cost`; the text names the class or the limit, and the remedy.
        """
        # Plain data takes a third of the time without our writer. marshal takes exactly the
        # built-in types, none of their subclasses, and calls nothing of the value: no __reduce__
        # runs here. The result shows whether this was right: pickle writes anything that is not of
        # the plain types with an opcode that looks up a class or calls one. If no such opcode is
        # in it, our writer would have written the same bytes.
        try:
            marshal.dumps(value)
            data = pickle.dumps(value, PROTOCOL)
            if self._check(data).is_plain:
                return data
        except Exception:  # noqa: BLE001, S110 - our writer raises it again, with the remedy
            pass
        buffer = io.BytesIO()
        writer = _Writer(buffer, self._allowed)
        try:
            writer.dump(value)
            written = buffer.getvalue()
            found = self._check(written, shares=writer.uses)
            if writer.has_sets and not found.needs_key_check and len(written) > FEW_BYTES:
                check_key_hashes(written, (), self._by_name)
        except (OpcodeRefused, CollisionRefused) as error:
            raise ClassRefused(
                f"receivers would refuse the payload ({error}): send plainer data, or give a "
                "serializer and a deserializer"
            ) from error
        return written

    def loads(self, data: bytes) -> Any:
        """Restore what `dumps` wrote; nothing but the allowed classes is looked up.

        Raises:
            ClassRefused: it names another class, or asks too much of an allowed one.
            OpcodeRefused: it is not as our writer makes it, or goes beyond a limit.
            Exception: of any kind, as a malformed pickle makes pickle raise; catch all of them.
        """
        if self._check(data).is_plain:
            # No opcode looks up a class, so our unpickler would have nothing to decide, and it
            # takes five times as long.
            return pickle.loads(data)
        return RestrictedUnpickler(data, self._by_name).load()

    def _check(self, data: bytes, shares: int | None = None) -> Findings:
        found = check_opcodes(data, registered=self._registered, shares=shares)
        if found.needs_key_check:
            check_key_hashes(data, found.mappings_at, self._by_name)
        return found


def _refusal(cls: type) -> str:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"a payload may not contain {name}: send plain data, or register the class on every node "
        f"with allowed_classes=[{cls.__qualname__}], or give a serializer and a deserializer"
    )
