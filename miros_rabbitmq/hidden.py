"""Secrets that show themselves only to those who use them.

What is printed of an object is the ``repr`` of its parts: by ``vars``, ``pprint``, a debugger, or a
traceback with local variables. Pure.
"""

from __future__ import annotations

from typing import Any


class HiddenText(str):
    """A text whose ``repr`` does not tell it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class HiddenBytes(bytes):
    """Bytes whose ``repr`` does not tell them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b'***'"


def hide(value: Any) -> Any:
    """A secret, or a list or tuple of some, that is equal and not shown; others as they are."""
    if isinstance(value, str):
        return HiddenText(value)
    if isinstance(value, bytes):
        return HiddenBytes(value)
    if type(value) in (list, tuple):
        return type(value)(map(hide, value))
    return value
