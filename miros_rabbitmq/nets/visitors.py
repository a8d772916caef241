"""Signals that only came from the network: they have a number, but no place in miros's registry.

miros's registry keeps every name until the process ends. Whoever has the key could fill it, and a
bound on its size would shut out the names of honest charts for the life of the process. So a name
that others send, and that this process's own code has not named, is a *visitor*. It has a number,
which a handler may compare and use, and is forgotten when no event refers to it any more.

The number follows from the name by a keyed hash. So it is the same whenever the name comes again,
and nothing has to be remembered for that. From the first visitor on, `registry` numbers the names
that the own code declares in the same way: an event that came first has the number that
``signals.NAME`` then gets. The key is random, so nobody can choose two names of one number.

Pure, but for the draw of that key.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from hashlib import blake2b

_RECENT = 256
"""So many of the latest visitors are kept even if no event refers to them: their number is found
faster then."""

_FIRST = 1 << 62
"""All of their numbers are above miros's own, and fit into 63 bits."""


class Visitor:
    """A name and its number. Events refer to it, and so keep it."""

    __slots__ = ("__weakref__", "name", "number")

    def __init__(self, name: str, number: int) -> None:
        self.name: str = name
        self.number: int = number


class Visitors:
    """The visitors that some event refers to, and the latest ones.

    `visit` is to be called with a lock; the other methods from any thread.

    Args:
        key: makes the numbers; random by default.
        recent: how many of the latest are kept.
    """

    def __init__(self, key: bytes | None = None, recent: int = _RECENT) -> None:
        self.have_come: bool = False
        """Whether there was any visitor yet."""
        self._key = os.urandom(16) if key is None else key
        self._by_name: weakref.WeakValueDictionary[str, Visitor] = weakref.WeakValueDictionary()
        self._by_number: weakref.WeakValueDictionary[int, Visitor] = weakref.WeakValueDictionary()
        self._recent: deque[Visitor] = deque(maxlen=recent)

    def __len__(self) -> int:
        return len(self._by_name)

    def number_of(self, name: str) -> int:
        """Return the number of any name."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8)
        return _FIRST | int.from_bytes(digest.digest(), "big") >> 2

    def visit(self, name: str) -> Visitor:
        """Return the visitor of a name, for an event that refers to it."""
        self.have_come = True
        visitor = self._by_name.get(name)
        if visitor is None:
            visitor = Visitor(name, self.number_of(name))
            self._by_name[name] = self._by_number[visitor.number] = visitor
            self._recent.append(visitor)
        return visitor

    def named(self, name: object) -> Visitor | None:
        """Return the visitor of a name, if it is here."""
        return self._by_name.get(name) if isinstance(name, str) else None

    def numbered(self, number: object) -> Visitor | None:
        """Return the visitor with a number, if it is here."""
        return self._by_number.get(number) if isinstance(number, int) else None
