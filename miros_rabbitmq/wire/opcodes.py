"""The opcodes of a pickle of protocol 3, and the regular expressions that find them.

This module knows the syntax of a pickle and nothing of its meaning: `pickle_check` walks over the
opcodes, and `pickle_cost` counts keys, both with the expressions from here.

A token is one opcode with its argument. A token of plain data (a number, a text, bytes, True, False
or None) also includes the opcode that puts the value into the memo, if one follows.

Source: Lib/pickletools.py of CPython describes each opcode.
"""

from __future__ import annotations

import pickle
import re

HEAD = b"\x80\x03"
MARK = ord("(")
STOP = ord(".")
GET = ord("h")
APPENDS, SETITEMS, TUPLE = b"eut"

PLAIN_OPCODES = frozenset(b"N\x88\x89KMJGXC\x8a")
TEXT_OPCODES = frozenset(b"XC")
TEXT_OR_SHARE_OPCODES = frozenset(b"XCh")

CONTAINERS = b"abesutR\x81\x85\x86\x87"
"""Opcodes that put values into another value; nothing nests without one of them."""

TOKEN_BYTES = 270
"""More than the bytes of any token of plain data that the regular expressions match."""


class OpcodeRefused(pickle.UnpicklingError):
    """A pickle has an opcode, or uses one in a way, that our own writer does not; or it goes beyond
    a limit of `pickle_cost`."""


def _counted(opcode: bytes, tail: bytes = b"") -> bytes:
    """The expression for an opcode, a length below 256, and as many bytes.

    Args:
        opcode: one byte.
        tail: the upper bytes of the length, all zero, if its field is wider than one byte.
    """
    sizes = (
        re.escape(bytes([size])) + tail + (b".{%d}" % size if size else b"") for size in range(256)
    )
    return re.escape(opcode) + b"(?:" + b"|".join(sizes) + b")"


_NUMBER = rb"[N\x88\x89]|K.|M..|J....|G.{8}|" + _counted(b"\x8a")
_TEXT = _counted(b"X", rb"\0\0\0") + b"|" + _counted(b"C")
_LONG_PUT = rb"r.[^\0]\0\0"
"""Puts a value into the memo at an index from 256 to 65,535. An index below 256 is not written in
four bytes, and there the memo keeps account of how long each text is."""
_PLAIN = _NUMBER + rb"|(?:" + _TEXT + rb")(?:q.|" + _LONG_PUT + rb")?"
_GLOBAL = rb"c[^\n]{1,255}\n[^\n]{1,255}\n"

# For every byte, only one alternative can match, so a failing match takes linear time.
_ANY_SMALL = (
    _counted(b"X", rb"\0\0\0")
    + rb"|[]()}etusaN\x88\x89\x85\x86\x87]|[qhK].|M..|J....|G.{8}|"
    + _counted(b"\x8a")
    + b"|"
    + _counted(b"C")
)
SMALL_PLAIN = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + rb")*\.", re.DOTALL)
"""A whole pickle of small tokens, in which no opcode looks up a class or calls one."""
SMALL = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + b"|R|" + _GLOBAL + rb")*\.", re.DOTALL)
"""A whole pickle of small tokens; it may look up classes and call them."""
SMALL_TOKENS = re.compile(_ANY_SMALL + b"|R|" + _GLOBAL, re.DOTALL)

# Eight numbers of one kind at once, because each repetition takes time. Such numbers can be divided
# in two ways, but nothing follows that could fail and make Python try the other way. A piece ends
# after 512 repetitions: during a match, each repetition takes some dozen bytes of memory.
_EIGHT = b"|".join(number * 8 for number in (rb"K.", rb"M..", rb"J....", rb"G.{8}"))
RUN = re.compile(rb"(?:" + _EIGHT + rb"|h.|" + _PLAIN + rb"){1,512}", re.DOTALL)
"""A piece of a run: plain data, and reads of the memo."""
# These two look ahead for the argument, so that they also find an opcode inside the argument of
# another. They rather find too much than too little.
SHARE = re.compile(rb"h(?=(.))", re.DOTALL)
PUT = re.compile(rb"q(?=(.))", re.DOTALL)
"""Reads of the memo, and writes to it; the group is the index, of one byte."""
_TEXT_OR_SHARE = rb"(?:(?:" + _TEXT + rb")(?:q.|" + _LONG_PUT + rb")?|h.)"
TEXT_KEYS = re.compile(rb"(?:" + _TEXT_OR_SHARE + rb"(?:h.|" + _PLAIN + rb")){1,512}", re.DOTALL)
"""A piece of a run of pairs whose keys are text or bytes."""
TOKENS = re.compile(rb"h.|" + _PLAIN, re.DOTALL)
LARGE_INTEGER = re.compile(rb"\x8a[\x09-\xff]")
ONE_PLAIN = re.compile(_NUMBER + rb"|(?:" + _TEXT + rb")(?:q(.)|" + _LONG_PUT + rb")?", re.DOTALL)
"""One token of plain data. Its group is the index in the memo, if that has one byte."""
ONE_GLOBAL = re.compile(_GLOBAL)
