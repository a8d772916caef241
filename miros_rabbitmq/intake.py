"""Where posts wait that nobody has to look at now, as somebody is about to look at all of them.

Pure. Under load nearly every post is of this kind: a beat is to come, or a confirm, or a thread
that was woken. To put it here costs its sender a fraction of a look at what has to be done.

A *look* closes the intake, takes everything out of it, and opens it again only where another look
is sure to come. Whoever has put something in asks afterwards whether the intake is open: then a
look comes that finds it; otherwise one may have passed just before, and who asked looks himself.
Each side does first what the other does last, so one of them sees the other (as in Dekker's
algorithm; Dijkstra, EWD 123, "Cooperating sequential processes", 1965, chapter 2).
"""

from __future__ import annotations

from collections import deque

SMALL_TOKEN = 512
"""Bytes of a token that may be put in: larger ones are measured and not only counted."""


class Intake:
    """Takes small tokens, of any thread, without a lock; opened and emptied with its owner's."""

    def __init__(self) -> None:
        self._tokens: deque[bytes] = deque()
        self._places = 0

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def is_open(self) -> bool:
        """A look is to come; asked after `put`."""
        return self._places > 0

    def put(self, token: bytes) -> bool:
        """Put a token behind the others; whether there was a place for it."""
        if len(self._tokens) < self._places and len(token) <= SMALL_TOKEN:
            self._tokens.append(token)
            return True
        return False

    def close(self) -> None:
        """Take no more; a look that was to come still comes."""
        self._places = 0

    def empty(self) -> list[bytes]:
        """Close it and take out what is in it, in order; with the owner's lock."""
        self._places = 0
        tokens = self._tokens
        # None is put in by now that its thread does not look at itself.
        return [tokens.popleft() for _ in range(len(tokens))]

    def open(self, places: int) -> None:
        """Take so many small tokens until the next look, which is sure to come; with the lock."""
        self._places = places
