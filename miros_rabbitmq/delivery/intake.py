"""The place for posts that need no look of their own, because a look at all posts is coming anyway.

Pure. Under load nearly every post is of this kind: the next beat, the next confirm or a thread that
was just woken will look at it. To put a token here costs the posting thread a fraction of what it
costs to look.

A *look* closes the intake and takes what is in it. A thread opens the intake when it finds, while
posting, that another look is sure to come. A thread that has put a token in then asks whether the
intake is open. If so, a look is still to come and finds the token. If not, a look may have passed
just before, and the thread looks itself. Each side does first what the other does last, so at least
one of them sees the other (as in Dekker's algorithm; E. W. Dijkstra, "Cooperating sequential
processes", EWD 123, 1965, chapter 2).
"""

from __future__ import annotations

from collections import deque

SMALL_TOKEN = 512
"""The most bytes of a token that may be put in. The bytes of larger tokens have to be counted, not
only their number."""


class Intake:
    """Takes small tokens from any thread without a lock: `put` and `is_open`.

    The other methods need the lock of its owner.
    """

    def __init__(self) -> None:
        self._tokens: deque[bytes] = deque()
        self._places = 0

    @property
    def is_open(self) -> bool:
        """A look is sure to come. To be asked after `put`."""
        return self._places > 0

    def put(self, token: bytes) -> bool:
        """Put a token behind the others; tells whether there was a place for it."""
        if len(self._tokens) < self._places and len(token) <= SMALL_TOKEN:
            self._tokens.append(token)
            return True
        return False

    def open(self, places: int) -> None:
        """Take up to ``places`` small tokens until the next look, which is sure to come."""
        self._places = places

    def close(self) -> None:
        """Take no more tokens; the look that was to come still comes."""
        self._places = 0

    def look(self) -> list[bytes]:
        """Close the intake, and return what is in it, in order."""
        self._places = 0
        tokens = self._tokens
        # A token that is put in from now on is left out: its thread will look itself.
        return [tokens[number] for number in range(len(tokens))]

    def forget(self, tokens: list[bytes]) -> None:
        """Remove the tokens that `look` has returned, once they are stored elsewhere.

        Not before, so that an exception in between, such as KeyboardInterrupt, cannot lose the
        posts of other threads.
        """
        for token in tokens:
            if self._tokens and self._tokens[0] is token:
                self._tokens.popleft()
