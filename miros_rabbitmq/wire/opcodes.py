"""The opcodes of a pickle of protocol 3, and the regular expressions that find them.

This module knows the syntax of a pickle and nothing of its meaning: `pickle_check` walks over the
opcodes with the expressions from here.

A token is one opcode with its argument. A token of plain data (a number, a text, bytes, True, False
or None) also includes the opcode that puts the value into the memo, if one follows.

Source: Lib/pickletools.py of CPython describes each opcode.
"""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

HEAD = b"\x80\x03"
STOP = ord(".")
GET = ord("h")
TEXT = ord("X")

CONTAINERS = b"abesutR\x81\x85\x86\x87"
"""Opcodes that put values into another value; nothing nests without one of them."""


class OpcodeRefused(pickle.UnpicklingError):
    """A pickle has an opcode, or uses one in a way, that our own writer does not; or it goes beyond
    a limit of `pickle_cost`."""


class Later:
    """A regular expression that is compiled when it is first used.

    Each takes some milliseconds to compile, and small pickles, which most are, need none of these.
    Any thread may use it.

    Args:
        source: the expression; a dot matches any byte.
    """

    match: Callable[..., re.Match[bytes] | None]
    """As of a compiled expression, and so are the others."""
    fullmatch: Callable[..., re.Match[bytes] | None]
    findall: Callable[..., list[bytes]]

    def __init__(self, source: bytes) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        """Compile it, and keep its methods in this object."""
        pattern = re.compile(self._source, re.DOTALL)
        self.match, self.fullmatch, self.findall = pattern.match, pattern.fullmatch, pattern.findall
        return getattr(pattern, name)


_SIZES = [re.escape(bytes([size])) for size in range(256)]


@functools.cache  # most are part of several expressions
def _counted(opcode: bytes, tail: bytes = b"") -> bytes:
    """The expression for an opcode, a length below 256, and as many bytes.

    Args:
        opcode: one byte.
        tail: the upper bytes of the length, all zero, if its field is wider than one byte.
    """
    sizes = (byte + tail + (b".{%d}" % size if size else b"") for size, byte in enumerate(_SIZES))
    return re.escape(opcode) + b"(?:" + b"|".join(sizes) + b")"


_NUMBER = rb"[N\x88\x89]|K.|M..|J....|G.{8}|" + _counted(b"\x8a")
_TEXT = _counted(b"X", rb"\0\0\0") + b"|" + _counted(b"C")
_PUT = rb"(?:q.|r....)?"
_GLOBAL = rb"c[^\n]{1,255}\n[^\n]{1,255}\n"

# For every byte, only one alternative can match, so a failing match takes linear time.
_ANY_SMALL = (
    rb"(?:"
    + _counted(b"X", rb"\0\0\0")
    + b"|"
    + _counted(b"C")
    + rb"|[]})t\x85\x86\x87])(?:q.)?|[(eusaN\x88\x89]|K.|M..|J....|G.{8}|"
    + _counted(b"\x8a")
)
_OBJECT = rb"R|" + _GLOBAL
SMALL = re.compile(
    rb"\x80\x03(?:" + _ANY_SMALL + rb"|(h.)|(" + _OBJECT + rb")(?:q.)?)*\.", re.DOTALL
)
"""A whole pickle of small tokens. The match has a first group if some opcode reads the memo, and a
second one if some opcode looks up a class or calls one."""
SMALL_TOKENS = Later(_ANY_SMALL + rb"|h.|(?:" + _OBJECT + rb")(?:q.)?")
MAY_READ = re.compile(rb"h(?=(.))", re.DOTALL)
MAY_SHARE = re.compile(rb"[])}tR\x85\x86\x87]q(?=(.))", re.DOTALL)
"""The indexes of what a small pickle reads from the memo, and of containers and objects that it
puts there; and other bytes that look so."""

# Eight numbers of one kind at once, because each repetition takes time. Such numbers can be divided
# in two ways, but nothing follows that could fail and make Python try the other way. Repetitions
# are limited, as each takes some dozen bytes of memory during a match.
_EIGHT = b"|".join(number * 8 for number in (rb"K.", rb"M..", rb"J....", rb"G.{8}"))
_NUMBERS = rb"(?:" + _EIGHT + rb"|" + _NUMBER + rb"){1,512}"
_TOKEN = (
    rb"h.|[Naseu\x88\x89]|(?:%b)%b|K.|[]}t\x85\x86\x87R\x81]%b|\((?:%b[et]?)?|M..|J....|G.{8}|[)b]|"
    rb"j....|q.|r....|%b|%b"
) % (_TEXT, _PUT, _PUT, _NUMBERS, _counted(b"\x8a"), _GLOBAL)
TOKENS = Later(_TOKEN)
"""Each token of a piece. A mark and the numbers behind it are one, with the opcode that puts all of
them into a list or a tuple, if that follows. A text, and an opcode that makes an object, includes
the opcode that puts it into the memo."""
PIECE = Later(rb"(?:%b){1,512}" % _TOKEN)
"""Up to 512 tokens."""
NUMBERS = Later(_NUMBERS)
"""As many numbers as are one token with the mark before them."""
NUMBER = Later(_NUMBER)


LONG = frozenset(b"XB\x8b")
"""The opcodes with a length of four bytes; `TOKENS` has those of them that are short texts."""

HALF_PAIR = re.compile(rb"\xed[\xa0-\xbf]")
"""How half of a surrogate pair begins in a text; other values may have these bytes, too."""


class TextRefused(OpcodeRefused):
    """A text cannot be printed or encoded."""

    def __init__(self) -> None:
        super().__init__(HALF_PAIR_REFUSED)


HALF_PAIR_REFUSED = (
    "a text has half of a surrogate pair, such as from a file name that is not UTF-8: send "
    "os.fsencode(name).hex(), or text.encode(errors='replace').decode()"
)


def check_texts(tokens: Iterable[bytes]) -> None:
    """Raise `TextRefused` if a short text among some tokens has half of a surrogate pair."""
    for token in tokens:
        if token[0] == TEXT and HALF_PAIR.search(token, 5, 5 + token[1]):
            raise TextRefused


def replace_mappings(data: bytes, which: Collection[int], by: bytes) -> bytes:
    """Return a pickle with other opcodes in the place of some that make a mapping.

    Args:
        data: a pickle whose opcodes have been checked.
        which: the places among the opcodes that make a mapping, counted from 1.
        by: the opcodes to put there.
    """
    parts = [HEAD]
    at, count = len(HEAD), 0
    while data[at] != STOP:
        piece = PIECE.match(data, at)
        if piece is None:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "little")
            parts.append(data[at:end])
            at = end
            continue
        for token in TOKENS.findall(data, at, piece.end()):
            if token[:1] == b"}":
                count += 1
                if count in which:
                    parts.append(by)
                    token = token[1:]
            parts.append(token)
        at = piece.end()
    return b"".join([*parts, data[at:]])
