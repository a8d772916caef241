"""Pickle for plain data: what a payload may contain, checked on writing and on reading.

`RestrictedPickle` is the default serializer and deserializer. Its writer refuses exactly what its
reader would, so a sender learns of a payload that cannot travel in its own ``transmit``. Before
anything is loaded, `pickle_check` has looked at every opcode. `unpickler` loads the pickle and
imports nothing; `payload_types` lists the standard classes that a payload may contain, and
`payload_advice` says why a payload cannot travel.

Pickle protocol 3 is the newest that every Python 3 reads.

Source of the technique: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import marshal
import pickle
from collections.abc import Collection, Iterable
from typing import Any

from ..exceptions import SettingsError
from .opcodes import OpcodeRefused, TextRefused
from .payload_advice import advice_on, could_not_be_made, objects_in
from .payload_types import CHECKS, COSTLY, HARMLESS, ClassRefused, own_form
from .pickle_check import Findings, check_opcodes
from .pickle_cost import MAX_DEPTH
from .unpickler import CollisionRefused, Name, RestrictedUnpickler, check_key_hashes

__all__ = ["HARMLESS", "PROTOCOL", "ClassRefused", "OpcodeRefused", "RestrictedPickle"]

PROTOCOL = 3

_MOST_TRIED_BYTES = 4 * 1024 * 1024
"""How many bytes are written and loaded at most to find the object of a refused payload that is to
blame; that takes a second."""

FEW_BYTES = 1_024
"""A pickle of up to so many bytes has no room for keys that take long to compare."""
FEW_OBJECTS = 10_000
"""So many objects, whatever they are, take receivers less memory than is allowed."""
_SAME_MODULE = {"pathlib._local": "pathlib", "pathlib": "pathlib._local"}
"""Modules that are two names of one: Python 3.13 has the classes of paths in another."""


def _name_of(cls: type) -> Name:
    return cls.__module__, cls.__qualname__


def _names_of(cls: type) -> tuple[Name, ...]:
    """All names by which a class may come, its own first."""
    module, name = _name_of(cls)
    other = _SAME_MODULE.get(module)
    return ((module, name),) if other is None else ((module, name), (other, name))


_REBUILT = frozenset(HARMLESS)


class _Writer(pickle.Pickler):
    """Writes one pickle of plain data and objects of the allowed classes.

    Args:
        file: where it goes.
        allowed: exactly these classes, not their subclasses.
    """

    def __init__(self, file: io.BytesIO, allowed: Collection[type]) -> None:
        super().__init__(file, PROTOCOL)
        self._allowed = allowed
        self.is_costly = False
        """It has written an object that costs receivers more than its opcodes tell."""
        self.has_registered = False
        """It has written an object of a class that is not harmless."""
        self.uses = 0
        """How often the pickle takes a class from the memo, if none is a value in it."""

    def reducer_override(self, obj: Any) -> Any:
        """Say how to write an object that is not plain, or a class; pickle calls this.

        Raises:
            ClassRefused: the class is not allowed.
        """
        cls = obj if isinstance(obj, type) else type(obj)
        if cls not in self._allowed:
            raise ClassRefused(cls)  # `payload_advice` finds the words
        if obj is cls:
            self.uses -= 1
            self.is_costly = self.is_costly or cls in COSTLY  # of a set, pickle asks this alone
            return NotImplemented
        self.uses += 1
        if cls not in _REBUILT:
            self.has_registered = True
        elif (check := CHECKS.get(cls)) is not None:
            check(obj)
        form = own_form(cls)
        return NotImplemented if form is None else form(obj)


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
        self._by_name = {name: cls for cls in registered for name in _names_of(cls)}
        self._registered = frozenset(
            f"c{module}\n{name}\n".encode()
            for cls in registered
            if cls not in _REBUILT
            for module, name in _names_of(cls)
        )

    def dumps(self, value: Any) -> bytes:
        """Serialize plain data, and objects of the registered classes.

        If it has written any such object, it loads the result once, as receivers do: whether an
        object can be made again depends on its state, so no list of classes that were good once
        would tell. It makes such a payload a sixth slower (30 us in place of 26 for a dataclass);
        any other costs nothing more.

        Raises:
            ClassRefused: the value contains an object of another class, or one that receivers could
                not make again, or goes beyond a limit of `pickle_cost`; the text names the classes
                or the limit, and the remedy.
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
        except RecursionError as error:
            raise ClassRefused(
                f"it is nested too deep to be pickled, and receivers take at most {MAX_DEPTH} "
                "containers in each other: send flatter data, such as one list of all parts, each "
                "with the number of the one that holds it"
            ) from error
        except Exception as error:
            # It is one of ours, or comes from the user's own code.
            text = advice_on(value, self._allowed, PROTOCOL)
            raise ClassRefused(text or f"it cannot be pickled: {error}") from error
        written = buffer.getvalue()
        try:
            found = self._check(written, shares=writer.uses)
            is_costly = writer.is_costly or writer.uses > FEW_OBJECTS
            if is_costly and len(written) > FEW_BYTES:
                check_key_hashes(written, (), self._by_name, found.budget)
        except TextRefused as error:
            raise ClassRefused(f"receivers would refuse the payload: {error}") from error
        except (OpcodeRefused, CollisionRefused) as error:
            raise ClassRefused(
                f"receivers would refuse the payload ({error}): send plainer data, or give a "
                "serializer and a deserializer"
            ) from error
        if writer.has_registered:
            self._load_once(written, value)
        return written

    def _load_once(self, written: bytes, value: Any) -> None:
        """Load what was written, to see whether receivers could.

        Raises:
            ClassRefused: they could not.
        """
        try:
            RestrictedUnpickler(written, self._by_name).load()
        except Exception as error:
            culprit, why = self._culprit(value, error)
            raise ClassRefused(could_not_be_made(culprit, why)) from error

    def _culprit(self, value: Any, error: Exception) -> tuple[Any, Exception]:
        """Return the object in a payload that cannot be loaded, and why; the innermost if many."""
        objects = objects_in(value, self._allowed, PROTOCOL)
        tried = 0
        for one in reversed(objects):
            buffer = io.BytesIO()
            try:
                _Writer(buffer, self._allowed).dump(one)
                RestrictedUnpickler(buffer.getvalue(), self._by_name).load()
            except Exception as why:  # noqa: BLE001 - it runs the user's code
                return one, why
            tried += buffer.tell()
            if tried > _MOST_TRIED_BYTES:
                break
        return (objects or [value])[0], error

    def loads(self, data: bytes) -> Any:
        """Restore what `dumps` wrote; nothing but the allowed classes is looked up.

        Raises:
            ClassRefused: it names another class, or asks too much of an allowed one.
            OpcodeRefused: it is not as our writer makes it, or goes beyond a limit.
            Exception: of any kind, as a malformed pickle makes pickle raise; catch all of them.
        """
        found = self._check(data)
        if found.is_plain:
            # No opcode looks up a class, so our unpickler would have nothing to decide, and it
            # takes five times as long.
            return pickle.loads(data)
        return RestrictedUnpickler(data, self._by_name, found.budget).load()

    def _check(self, data: bytes, shares: int | None = None) -> Findings:
        found = check_opcodes(data, registered=self._registered, shares=shares)
        if found.needs_key_check:
            check_key_hashes(data, found.mappings, self._by_name, found.budget)
        return found
