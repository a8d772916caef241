"""The match of a topic exchange: would a routing key go by the binding with this pattern?

The rules are those of AMQP 0-9-1, 3.1.3.3, as RabbitMQ applies them: pattern and key are words
between dots; ``*`` stands for exactly one word, and ``#`` for any number of words, also none. A
word may be empty, so that ``a.`` has two words; but a key or pattern without any character has no
word at all. An asterisk or hash beside other characters is a character like any other.
"""

from __future__ import annotations

from collections import defaultdict


class TopicPattern:
    """The pattern of a binding to a topic exchange. It never changes, so any thread may use it.

    Matching costs a few operations on integers for each word of the key, whatever the pattern: the
    places in the pattern that the words so far may have led to are the bits of one integer.

    Args:
        pattern: as it is bound, such as ``robots.*.position`` or ``robots.#``.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        # Bit n of a set of places stands for the place before word n of the pattern.
        self._words: defaultdict[str, int] = defaultdict(int)
        self._any_word = self._any_number = 0
        place = 1
        for word in _words(pattern):
            if word == "*":
                self._any_word |= place
            elif word != "#":
                self._words[word] |= place
            elif self._any_number & place >> 1:
                continue  # two in a row say the same as one
            else:
                self._any_number |= place
            place <<= 1
        self._end = place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pattern!r})"

    def matches(self, routing_key: str) -> bool:
        """Whether a topic exchange routes a message with this key by this pattern."""
        any_word, any_number, words = self._any_word, self._any_number, self._words
        places = 1
        for word in _words(routing_key):
            places |= (places & any_number) << 1  # a hash may stand for no word
            here = places & (any_word | words.get(word, 0))
            places = here << 1 | places & any_number
            if not places:
                return False
        places |= (places & any_number) << 1
        return bool(places & self._end)


def _words(text: str) -> list[str]:
    """The words of a pattern or key, in order."""
    return text.split(".") if text else []
