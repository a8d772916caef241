"""Says why a payload cannot travel, and what would: the texts of `pickling`.

Called only when a payload has been refused. A `Survey` goes over the whole payload, so that its
owner learns of all classes at once, and learns at once of what no list of classes would help. It
makes no object of a class that is not allowed.
"""

from __future__ import annotations

import collections
import copyreg
import inspect
import io
import pickle
import re
import sys
import threading
import types
from collections.abc import Collection, ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from .payload_types import HARMLESS, ClassRefused, own_form

_SERIALIZER = "give a serializer and a deserializer"

_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)
_OF_THE_PROCESS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Event,
    threading.Semaphore,
)
_RUNNING = (
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
)

_NEVER: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("a function", _FUNCTIONS, "send its name, and let the receiver look it up"),
    ("a module", types.ModuleType, "send its name"),
    ("a compiled pattern", re.Pattern, "send its pattern and flags, and compile them there"),
    ("a view of memory", memoryview, "send bytes(view)"),
    ("an open file or stream", io.IOBase, "send its path, or what it contains"),
    ("something that runs", _RUNNING, "send what it yields or returns, such as a list"),
    ("a view of a mapping", (KeysView, ValuesView, ItemsView), "send a list of it"),
    ("a lock", _OF_THE_PROCESS, "it belongs to this process, so send plain data"),
    ("a thread", threading.Thread, "it belongs to this process, so send plain data"),
)
"""What can never travel: in words, its types, and what to do in its place."""

_PLAINER = {
    "numpy.ndarray": "its tolist(), and make an array of that again",
    "numpy.generic": "its item()",
    "pandas.core.generic.NDFrame": "its to_dict()",
}
"""What to send in place of objects of classes that this package does not import, by the name of the
class or of one of its bases."""

_CALLS_THAT_PICKLE_KNOWS = (copyreg.__newobj__,)  # type: ignore[attr-defined]


def name_of(cls: type) -> str:
    """Return the name of a class with that of its module, as an import has them."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_importable(cls: type) -> bool:
    """Whether the name of a class leads to it, from the top level of its module."""
    module = sys.modules.get(cls.__module__)
    return "." not in cls.__qualname__ and getattr(module, cls.__qualname__, None) is cls


class Survey(pickle.Pickler):
    """Goes over a payload in the order in which it would be pickled, and notes its classes.

    Args:
        allowed: the classes that a payload may contain.
        protocol: the one to pickle with.
    """

    def __init__(self, allowed: Collection[type], protocol: int) -> None:
        super().__init__(io.BytesIO(), protocol)
        self._allowed = allowed
        self._protocol = protocol
        self.wanted: dict[type, None] = {}
        """Classes that are not allowed, and would help, in the order of the payload."""
        self.as_values: set[type] = set()
        """Classes of the payload that are values themselves."""
        self.objects: list[Any] = []
        """Objects of registered classes, an outer one before those in it."""

    def reducer_override(self, obj: Any) -> Any:
        """Note an object or a class; pickle calls this.

        Raises:
            ClassRefused: it can never travel.
        """
        cls = obj if isinstance(obj, type) else type(obj)
        if cls in HARMLESS:
            return NotImplemented if obj is cls else (own_form(cls) or _as_pickle_does)(obj)
        if obj is cls:
            if cls not in self.wanted and cls not in self._allowed:
                self.as_values.add(cls)
                self._want(cls)
            return NotImplemented
        if instead := _instead_of(obj):
            raise ClassRefused(
                f"a payload may not contain {_shown(obj)}{self._place_of(obj)}, and no list of "
                f"classes helps: {instead}"
            )
        self._want(cls)
        form = (own_form(cls) or _as_pickle_does)(obj)
        if form is NotImplemented:
            self._check_form(obj, _reduced(obj, self._protocol))
        self.objects.append(obj)
        return form

    def _place_of(self, obj: Any) -> str:
        """Return which attribute holds an object, if it is one of an object of the payload."""
        for holder in reversed(self.objects):
            for name, value in getattr(holder, "__dict__", {}).items():
                if value is obj:
                    return f" (the attribute {name} of {name_of(type(holder))})"
        return ""

    def _want(self, cls: type) -> None:
        if cls in self._allowed:
            return
        if not is_importable(cls):
            raise ClassRefused(
                f"a payload may not contain {name_of(cls)}: send plain data. Receivers find a "
                "class by its name at the top level of its module, and this one is not there"
            )
        self.wanted[cls] = None

    def _check_form(self, obj: Any, form: Any) -> None:
        """Check what pickle would write for an object.

        Raises:
            ClassRefused: receivers would call something else than a class, or could not make it.
        """
        name = name_of(type(obj))
        if isinstance(form, str):
            raise ClassRefused(
                f"a payload may not contain {name}, which is pickled as the name {form!r}: send "
                f"plain data made of it, or {_SERIALIZER}"
            )
        call, arguments = form[0], form[1]
        if call in _CALLS_THAT_PICKLE_KNOWS:
            return
        if not isinstance(call, type):
            called = getattr(call, "__qualname__", repr(call))
            raise ClassRefused(
                f"a payload may not contain {name}, which is pickled as a call of the function "
                f"{called}, and receivers call nothing but classes: let its __reduce__ return its "
                f"class and the arguments for it, or send plain data made of it, or {_SERIALIZER}"
            )
        # Only where nothing but this function decides. Otherwise loading it once will tell.
        init = vars(call).get("__init__")
        is_plain = type(call) is type and not isinstance(call.__new__, types.FunctionType)
        if is_plain and isinstance(init, types.FunctionType):
            try:
                inspect.signature(init).bind(None, *arguments)
            except TypeError as error:
                raise ClassRefused(could_not_be_made(obj, error)) from error


def advice_on(value: Any, allowed: Collection[type], protocol: int) -> str:
    """Return why a payload cannot be pickled, and what to do; empty if nothing was found."""
    survey = Survey(allowed, protocol)
    try:
        survey.dump(value)
    except ClassRefused as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code
        return f"a payload cannot be pickled ({type(error).__name__}: {error}): send plainer data"
    if not survey.wanted:
        return ""
    names = _listed(
        f"the class {name_of(cls)} itself" if cls in survey.as_values else name_of(cls)
        for cls in survey.wanted
    )
    many = len(survey.wanted) > 1
    main = (
        " (a class of the program __main__ is known only to nodes that have the same one in theirs:"
        " better put it into a module of its own)"
        if any(cls.__module__ == "__main__" for cls in survey.wanted)
        else ""
    )
    return (
        f"a payload may not contain {names}: send plain data, or register the "
        f"{'classes' if many else 'class'} on every node with "
        f"allowed_classes=[{', '.join(cls.__qualname__ for cls in survey.wanted)}]{main}, or "
        f"{_SERIALIZER}"
    )


def objects_in(value: Any, allowed: Collection[type], protocol: int) -> list[Any]:
    """Return the objects of registered classes in a payload, an outer one before those in it."""
    survey = Survey(allowed, protocol)
    survey.dump(value)
    return survey.objects


def could_not_be_made(obj: Any, error: BaseException) -> str:
    """Return that receivers could not load an object, and what to do."""
    return (
        f"a payload may not contain this {name_of(type(obj))}: its receivers could not make it "
        f"again ({type(error).__name__}: {error}). Let the __reduce__ of its class return the "
        f"class and all arguments for it, or send plain data made of it, or {_SERIALIZER}"
    )


def _as_pickle_does(_: Any) -> Any:
    return NotImplemented


def _reduced(obj: Any, protocol: int) -> Any:
    """Return what pickle would write for an object.

    Raises:
        ClassRefused: it cannot be pickled.
    """
    reduce = copyreg.dispatch_table.get(type(obj))
    try:
        return reduce(obj) if reduce is not None else obj.__reduce_ex__(protocol)
    except Exception as error:
        raise ClassRefused(
            f"a payload may not contain {_shown(obj)}: it cannot be pickled "
            f"({type(error).__name__}: {error}). Send plain data made of it, or {_SERIALIZER}"
        ) from error


def _instead_of(obj: Any) -> str:
    """Return what to do in place of sending an object that can never travel; empty for others."""
    for _, kinds, instead in _NEVER:
        if isinstance(obj, kinds):
            return instead
    if isinstance(obj, Iterator) and not hasattr(obj, "__dict__"):
        return "send what it yields, such as a list"
    if isinstance(obj, collections.defaultdict):
        factory = obj.default_factory
        if not (factory is None or (isinstance(factory, type) and factory not in HARMLESS)):
            return f"its default_factory, {factory!r}, does not travel. Send dict(it)"
    for base in type(obj).__mro__:
        if plainer := _PLAINER.get(name_of(base)):
            return f"send {plainer}, or {_SERIALIZER}"
    return ""


def _shown(obj: Any) -> str:
    """Return what an object is, in words that exist."""
    name = getattr(obj, "__qualname__", getattr(obj, "__name__", ""))
    for noun, kinds, _ in _NEVER:
        if isinstance(obj, kinds):
            return f"{noun}, {name}" if isinstance(name, str) and name else noun
    return "an iterator" if isinstance(obj, Iterator) else name_of(type(obj))


def _listed(names: Iterator[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
