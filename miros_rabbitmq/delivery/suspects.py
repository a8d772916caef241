"""The search for what a broker refuses by closing the channel: then it does not say which it was.

All messages that were under way are suspect. They are sent again in parts, each of which is awaited
before the next is sent. A part that is refused is halved, until it is one record; which is given up
when it was refused alone, often enough in a row. The broker takes messages in their order, so what
comes before the refused one is through. Then everything goes on as usual.

Pure. The records themselves are in the `outbox`, where the suspects are the first that wait; this
object only counts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_FIRST_PARTS = 32
"""Into so many parts the first suspects are divided: a message each if events are joined. If each
event is a message of its own, thousands are under way, and to await each alone would take long."""


class Suspects:
    """The parts of what is suspect, in order."""

    def __init__(self) -> None:
        self._parts: deque[int] = deque()
        self._left = 0  # of the part that is being sent: records that wait
        self._refused_alone = 0
        self.is_searching: bool = False
        """There are suspects."""
        self.has_found: bool = False
        """The search, or the last one if it has ended, has found a record that is refused alone."""

    def may_take(self, under_way: int) -> int:
        """Say how many records may go out now; 0 if what is under way is to be awaited.

        Only while it `is_searching`; that ends when no suspect is left.

        Args:
            under_way: how many records are.
        """
        if self._left == 0 and under_way == 0:
            self._refused_alone = 0
            if not self._parts:
                self.is_searching = False
            else:
                self._left = self._parts.popleft()
        return self._left

    def note_taken(self, records: int) -> None:
        """Note that so many records go out."""
        self._left -= records

    def note_dropped(self) -> None:
        """Note that the first record that waits was dropped, to make room for another."""
        if self._left:
            self._left -= 1
        elif self._parts:
            self._parts[0] -= 1
            if not self._parts[0]:
                self._parts.popleft()

    def note_lost(self, under_way: int) -> None:
        """Note that the connection was lost for another reason: what was under way waits again."""
        if self.is_searching:
            self._left += under_way

    def note_refused(self, messages: Sequence[int], attempts: int) -> bool:
        """Note that one of the messages under way was refused; all of them wait again.

        Args:
            messages: how many records each has, in order.
            attempts: how often in a row a record has to be refused alone.

        Returns:
            whether the first record that waits is to be given up.
        """
        under_way = sum(messages)
        if not under_way:
            return False
        if not self.is_searching:
            self.is_searching = True
            self.has_found = False
            self._parts.extend(_parts(messages))
            self._left = self._parts.popleft()
            if under_way > 1:
                return False
        else:
            self._left += under_way
        if self._left > 1:
            rest = self._left // 2
            self._parts.appendleft(rest)
            self._left -= rest
            self._refused_alone = 0
            return False
        self._refused_alone += 1
        if self._refused_alone < attempts:
            return False
        self._left = self._refused_alone = 0
        self.has_found = True
        return True


def _parts(messages: Sequence[int]) -> list[int]:
    """Divide messages into a few parts of about as many each."""
    size = -(-len(messages) // _FIRST_PARTS)
    return [sum(messages[at : at + size]) for at in range(0, len(messages), size)]
