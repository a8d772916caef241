"""Where posts wait that nobody has to look at now, as somebody is about to look at all of them.

Pure. Under load nearly every post is of this kind: a beat is to come, or a confirm, or a thread
that was woken. To put it here costs its sender a fraction of a look at what has to be done.

A *look* closes the intake and takes what is in it. It is opened by a post that finds that another
look is sure to come. Whoever has put something in asks afterwards whether the intake is open: then
a look comes that finds it; otherwise one may have passed just before, and who asked looks himself.
Each side does first what the other does last, so one of them sees the other (as in Dekker's
algorithm; E. W. Dijkstra, "Cooperating sequential processes", EWD 123, 1965, chapter 2).
"""

from __future__ import annotations

from collections import deque

SMALL_TOKEN = 512
"""Bytes of a token that may be put in: larger ones are measured and not only counted."""


class Intake:
    """Takes small tokens, of any thread, without a lock; the rest is done with its owner's lock."""

    def __init__(self) -> None:
        self._tokens: deque[bytes] = deque()
        self._places = 0

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

    def open(self, places: int) -> None:
        """Take so many small tokens until the next look, which is sure to come."""
        self._places = places

    def close(self) -> None:
        """Take no more; a look that was to come still comes."""
        self._places = 0

    def look(self) -> list[bytes]:
        """Close it, and say what is in it, in order."""
        self._places = 0
        tokens = self._tokens
        # What is put in by now is of a thread that will look itself.
        return [tokens[number] for number in range(len(tokens))]

    def forget(self, tokens: list[bytes]) -> None:
        """Let go of what `look` has said, once it is elsewhere.

        Not before: an exception in between, as of Ctrl-C, shall lose nothing of other threads.
        """
        for token in tokens:
            if self._tokens and self._tokens[0] is token:
                self._tokens.popleft()
