"""How an error names what it got, in plain English."""

from __future__ import annotations

_SPELLED_AN = frozenset("AEFHILMNORSX")
"""Letters whose names begin with a vowel, as in *an SSLContext*."""

_SPOKEN_A = ("eu", "one", "uni", "ur", "us")
"""What begins with a vowel in writing alone, as in *a User*."""


def a_value_of(value: object) -> str:
    """The type of a value with its article, as in *an int* and *a dict*."""
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """A name with the article that belongs before it.

    Args:
        name: such as that of a class.
    """
    if name[:2].isupper():
        is_vowel = name[0] in _SPELLED_AN
    else:
        is_vowel = name[:1].lower() in tuple("aeiou") and not name.lower().startswith(_SPOKEN_A)
    return f"{'an' if is_vowel else 'a'} {name}"
