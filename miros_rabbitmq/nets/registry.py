"""miros's two registries, made safe for several threads and quick to look things up in.

miros keeps the numbers of a process's signals in one ordered mapping, ``miros.signals``, that only
grows and that every thread reads. Two threads that add to it at the same time can give two names
one number, and one that makes an event while another adds gets a ``RuntimeError``. As the thread
of a connection adds the names that others send, the registry gets a lock for those that add and a
copy for those that read.

It is read some dozen times for each event that a chart handles: each ``signals.NAME`` and
``return_status.NAME`` is a failed attribute lookup first, and each new event a search through all
numbers. The copy is indexed, and names are attributes, which halves the time of an event. What is
asked and answered stays the same.

Importing this module is all it takes: the registries are single objects, and every module that
uses miros has a reference to them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from miros import return_status, signals

lock = threading.RLock()
"""Held while a signal is added."""


class _GuardedSignals(type(signals)):  # type: ignore[misc]  # miros has no type hints
    """miros's registry of signals; readers see the last complete state.

    Each event that is made asks for ``items()`` and ``values()``, and a chart makes five for each
    that it handles. So these two are methods of a copy, which are Python's own. What is in the
    registry is in the copy: the copy comes first when a name is added, and last when one goes.
    """

    _names: dict[str, int] = {}  # noqa: RUF012 - replaced, and never changed
    _inner: frozenset[str | int] = frozenset()

    def append(self, string: str) -> None:
        """Add a name, unless it is there."""
        if string not in self:
            with lock:
                super().append(string)

    def __setitem__(self, name: str, number: int) -> None:
        with lock:
            self._answer_from({**dict(super().items()), name: number})
            super().__setitem__(name, number)

    def __delitem__(self, name: str) -> None:
        with self._changing():
            super().__delitem__(name)

    def pop(self, *arguments: Any) -> Any:
        """Take a name out, as of any mapping."""
        with self._changing():
            return super().pop(*arguments)

    def popitem(self, last: bool = True) -> Any:
        """Take the last name out, or the first."""
        with self._changing():
            return super().popitem(last)

    def clear(self) -> None:
        """Take every name out."""
        with self._changing():
            super().clear()

    def move_to_end(self, name: str, last: bool = True) -> None:
        """Move a name to the end, or to the begin."""
        with self._changing():
            super().move_to_end(name, last)

    def is_inner_signal(self, other: object) -> bool:
        """Tell whether a name or a number is one of miros's own."""
        return isinstance(other, (str, int)) and other in self._inner

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with lock:
            yield
            self._answer_from(dict(super().items()))

    def _answer_from(self, names: dict[str, int]) -> None:
        """Prepare the answers anew; each is replaced in one step, and never changed.

        An event that is made asks for the values first: what is among them is among the items.
        """
        before, self._names = self._names, names
        numbers = dict.fromkeys(names.values())
        inner = tuple(names.items())[: self.highest_inner_signal]
        attributes = self.__dict__
        attributes["items"] = names.items
        # Among keys a number is found at once; but two names of one number are two values.
        attributes["values"] = numbers.keys if len(numbers) == len(names) else names.values
        attributes["_inner"] = frozenset(part for pair in inner for part in pair)
        for name in before.keys() - names.keys() - _TAKEN:
            attributes.pop(name, None)
        attributes.update((name, names[name]) for name in names.keys() - _TAKEN)


_TAKEN = frozenset((*dir(_GuardedSignals), *vars(signals)))
"""Attributes of the registry itself: a signal of such a name, which others may send, is none."""

signals.__class__ = _GuardedSignals
signals._answer_from(dict(signals))
vars(return_status).update(return_status)
