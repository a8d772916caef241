"""miros's two registries, made safe for several threads and quick to look things up in.

miros keeps two ordered mappings for a whole process: ``signals`` (the number of each signal's name)
and ``return_status`` (what a state function may return). Every thread reads them, and any thread
may add a signal. In plain miros two threads that add at the same time can give two names one
number, and a thread that makes an event while another adds a signal gets a ``RuntimeError``. A
networked chart meets both, because the thread of a connection adds the names that others send.

They are slow, too. ``signals.NAME`` begins with a failed look-up of an attribute, and each new
event searches all numbers, first for its own number and then for its name. A chart makes five
events for each one that it handles.

`install` mends both: every change of a registry takes a lock, names become real attributes, and a
new event finds its name in an index. A registry still gives the same answers as in plain miros,
because nothing that reads it is replaced: it keeps its class, and `_Guarded` is put between that
class and its base.

Names that only came from the network are not in it: see `visitors`. `event_of` makes their events,
and a registry finds their numbers when the process's own code first names them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from miros import Event, return_status, signals
from miros.event import OrderedDictWithParams

from .. import process
from .large_event import RemoteEvent
from .visitors import Visitor, Visitors

lock: threading.RLock = threading.RLock()
"""Held while a registry changes. A forked child gets a new lock, so always use it by this name:
``registry.lock``."""

_attributes_of: Callable[[Any], dict[str, Any]] = vars(OrderedDict)["__dict__"].__get__
"""All attributes of a registry; ``vars`` of a guarded one leaves out the shortcuts."""

_number_of = OrderedDict.__getitem__

_guards: dict[int, _Guard] = {}
"""The guards, by the id of their registry. Other objects of the same classes, such as copies, have
none."""

visitors: Visitors = Visitors()
"""The signals of this process that only came from the network. Changed under the lock."""

_VISITOR = "_miros_rabbitmq"
"""The attribute by which the event of a visitor keeps it."""

_is_installed = False


def install() -> None:
    """Guard miros's registries for the rest of the process.

    Called when the first networked object is made. May be called again, and from any thread.
    """
    global _is_installed
    if _is_installed:
        return
    with lock:
        if _is_installed:
            return
        for registry in (signals, return_status):
            _guards[id(registry)] = guard = _Guard(registry)
            # This is one step: from here on every other thread that writes waits for the lock.
            _put_below(type(registry), _Guarded, OrderedDictWithParams)
            guard.follow()
        guard = _guards[id(signals)]
        kind = type(signals)
        kind.append = _append_under_lock(kind.append)
        kind.name_for_signal = _with_visitors(kind.name_for_signal)
        kind.is_inner_signal = _with_known_inner_signals(kind.is_inner_signal, guard)
        Event.__init__ = _with_index(Event.__init__, guard)
        _is_installed = True


def event_of(name: str, payload: Any) -> Event:
    """Make an event that came from the network; from any thread.

    If the own code has never named its signal, the registry does not get it.

    Args:
        name: the signal's.
        payload: the event's.
    """
    if name not in signals:
        visitor = visitors.named(name)
        if visitor is None:
            with lock:
                if name not in signals:
                    visitor = visitors.visit(name)
        if visitor is not None:
            return _event_of_visitor(RemoteEvent.__new__(RemoteEvent), visitor, payload)
    # miros compares names by identity when it cancels events.
    return RemoteEvent(signal=sys.intern(name), payload=payload)


def _event_of_visitor(event: Any, visitor: Visitor, payload: Any) -> Event:
    event.payload = payload
    event.signal = visitor.number
    event.signal_name = visitor.name
    setattr(event, _VISITOR, visitor)
    return event


def _put_below(kind: type, between: type, base: type) -> None:
    kind.__bases__ = tuple(between if each is base else each for each in kind.__bases__)


class _Guard:
    """Indexes of the content of one registry. Changed under the lock, read without it.

    They may be a moment behind the registry. A reader that finds nothing here asks the registry.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._attributes = _attributes_of(registry)
        self.shortcuts: set[str] = set()
        """Names that this guard has made attributes, so that they are found at once."""
        self.names: dict[Any, Any] = {}
        """The name of each number; the first one if several names have it."""
        self._inner: list[Any] = []
        self.inner_numbers: set[Any] = set()
        """The numbers of miros's own signals."""
        self.inner_names: set[Any] = set()
        """All names that have one of these numbers."""
        process.disown_in_child(self, process.Stage.WORKERS)

    def add(self, name: Any, number: Any) -> None:
        """Update the indexes for a name that was added behind all others."""
        count = self._inner_count()
        are_inner_before = isinstance(count, int) and 0 <= count < len(self._registry)
        if not are_inner_before or number in self._inner:
            self.follow()
            return
        with contextlib.suppress(TypeError):
            self.names.setdefault(number, name)
        self._shorten(name, number)

    def follow(self) -> None:
        """Update the indexes after any change, by a look at every name."""
        pairs = list(OrderedDict.items(self._registry))
        names: dict[Any, Any] = {}
        numbers = [number for _, number in pairs]
        try:
            inner = numbers[: self._inner_count()]
        except TypeError:  # somebody has set another count: miros knows none then
            inner = []
        inner_numbers = set()
        for place, (name, number) in enumerate(pairs):
            # A number that cannot be hashed is left to the registry.
            with contextlib.suppress(TypeError):
                names.setdefault(number, name)
                if place < len(inner):
                    inner_numbers.add(number)
        self.names, self._inner, self.inner_numbers = names, inner, inner_numbers
        self.inner_names = {name for name, number in pairs if number in inner}
        for name in self.shortcuts - {name for name, _ in pairs}:
            self.remove_shortcut(name)
        for name, number in pairs:
            self._shorten(name, number)

    def remove_shortcut(self, name: str) -> None:
        """Have an attribute looked up in the registry again, as miros does."""
        if name in self.shortcuts:
            self._attributes.pop(name, None)
            self.shortcuts.discard(name)

    def disown(self) -> None:
        """Become usable in a forked child, where a thread of the parent may have held the lock."""
        global lock
        lock = threading.RLock()
        self.follow()

    def _inner_count(self) -> Any:
        return self._attributes.get("highest_inner_signal", 0)

    def _shorten(self, name: Any, number: Any) -> None:
        """Make a name an attribute, unless miros or a user has an attribute of this name."""
        if type(name) is not str or hasattr(type(self._registry), name):
            return
        if name in self.shortcuts or name not in self._attributes:
            self.shortcuts.add(name)  # first, so that `vars` never shows it
            self._attributes[sys.intern(name)] = number


def _followed(name: str) -> Any:
    """Wrap a method that changes a mapping: take the lock, and have the guard follow."""
    plain = getattr(OrderedDict, name)

    @functools.wraps(plain)
    def change(self: Any, *arguments: Any, **keywords: Any) -> Any:
        guard = _guards.get(id(self))
        if guard is None:
            return plain(self, *arguments, **keywords)
        with lock:
            try:
                return plain(self, *arguments, **keywords)
            finally:
                guard.follow()

    return change


def _set_aside(name: str) -> Any:
    """Wrap a method that sets or deletes an attribute: remove the shortcut of that name first."""
    plain = getattr(object, name)

    @functools.wraps(plain)
    def change(self: Any, attribute: str, *value: Any) -> None:
        guard = _guards.get(id(self))
        if guard is None:
            plain(self, attribute, *value)
            return
        with lock:
            guard.remove_shortcut(attribute)
            try:
                plain(self, attribute, *value)
            finally:
                guard.follow()

    return change


class _Guarded(OrderedDictWithParams):  # type: ignore[misc]  # miros has no type hints
    """The methods that change a registry; placed between miros's registry classes and their base.

    ``update``, ``setdefault`` and ``|=`` come here too: they call ``__setitem__`` for each name.
    """

    __delitem__ = _followed("__delitem__")
    pop = _followed("pop")
    popitem = _followed("popitem")
    clear = _followed("clear")
    move_to_end = _followed("move_to_end")
    __setattr__ = _set_aside("__setattr__")
    __delattr__ = _set_aside("__delattr__")

    def __getitem__(self, name: Any) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            with lock:
                if self is not signals or visitors.named(name) is None:
                    raise
                self.append(name)
                return super().__getitem__(name)

    def __setitem__(self, name: Any, number: Any) -> None:
        guard = _guards.get(id(self))
        if guard is None:
            super().__setitem__(name, number)
            return
        with lock:
            is_new = name not in self
            super().__setitem__(name, number)
            if is_new:
                guard.add(name, number)
            else:
                guard.follow()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # of every object
        """The attributes without the shortcuts, for ``vars``, ``dir`` and pickle."""
        attributes = _attributes_of(self)
        guard = _guards.get(id(self))
        if guard is None:
            return attributes
        hidden = guard.shortcuts
        return {name: value for name, value in list(attributes.items()) if name not in hidden}

    if hasattr(object, "__getstate__"):  # since Python 3.11; before, pickle asks for __dict__

        def __getstate__(self) -> object:
            if id(self) not in _guards:
                return super().__getstate__()
            return self.__dict__ or None


def _append_under_lock(plain: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    """``signals.append`` under the lock: nobody else may add between its count and its write.

    From the first visitor on, names get the number that they have or would have as visitors.
    """

    @functools.wraps(plain)
    def append(self: Any, string: str) -> None:
        if string not in self:
            with lock:
                if self is signals and visitors.have_come and isinstance(string, str):
                    if string not in self:
                        self[string] = visitors.number_of(string)
                else:
                    plain(self, string)

    return append


def _with_visitors(plain: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``signals.name_for_signal``, also for numbers of visitors."""

    @functools.wraps(plain)
    def name_for_signal(self: Any, signal: Any) -> Any:
        try:
            return plain(self, signal)
        except ValueError:
            with lock:
                visitor = visitors.numbered(signal) if self is signals else None
            if visitor is None:
                raise
            return visitor.name

    return name_for_signal


def _with_known_inner_signals(
    plain: Callable[[Any, object], bool], guard: _Guard
) -> Callable[[Any, object], bool]:
    """``signals.is_inner_signal`` by index: miros calls it for each call of a state function."""

    @functools.wraps(plain)
    def is_inner_signal(self: Any, other: object) -> bool:
        if self is not signals:
            return plain(self, other)
        if isinstance(other, str):
            return other in guard.inner_names
        return isinstance(other, int) and other in guard.inner_numbers

    return is_inner_signal


def _with_index(plain: Callable[..., None], guard: _Guard) -> Callable[..., None]:
    """``Event.__init__`` with the same result as that of miros, but without its two searches."""

    @functools.wraps(plain)
    def initialize(self: Any, signal: Any, payload: Any = None) -> None:
        try:
            name = guard.names.get(signal)
        except TypeError:  # it cannot be hashed
            name = None
        if name is not None:
            self.payload = payload
            self.signal = signal
            self.signal_name = name
        elif isinstance(signal, str):
            self.payload = payload
            signals.append(signal)
            self.signal_name = signal
            self.signal = _number_of(signals, signal)
        else:
            with lock:  # it goes through the registry
                visitor = visitors.numbered(signal)
                if visitor is None or visitor.name in signals:
                    plain(self, signal, payload)
                else:
                    _event_of_visitor(self, visitor, payload)

    return initialize
