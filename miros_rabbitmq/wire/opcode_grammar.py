"""The opcodes of a pickle as regular expressions: those of small pickles, and runs of plain data.

A token is an opcode with its argument; of plain data, also with the opcode that puts it into the
memo.
"""

from __future__ import annotations

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
"""Opcodes that put what is there into something else; nothing nests without one of them."""

TOKEN_BYTES = 270
"""More than the bytes of any token that the regular expressions know."""


def _counted(opcode: bytes, tail: bytes = b"") -> bytes:
    """Match an opcode, a length below 256 (whose upper bytes are in ``tail``), and its bytes."""
    sizes = (
        re.escape(bytes([size])) + tail + (b".{%d}" % size if size else b"") for size in range(256)
    )
    return re.escape(opcode) + b"(?:" + b"|".join(sizes) + b")"


_NUMBER = rb"[N\x88\x89]|K.|M..|J....|G.{8}|" + _counted(b"\x8a")
_TEXT = _counted(b"X", rb"\0\0\0") + b"|" + _counted(b"C")
_LONG_PUT = rb"r.[^\0]\0\0"
"""Beyond the indices of one byte, whose texts are known."""
_PLAIN = _NUMBER + rb"|(?:" + _TEXT + rb")(?:q.|" + _LONG_PUT + rb")?"
_GLOBAL = rb"c[^\n]{1,255}\n[^\n]{1,255}\n"

# Every byte has but one alternative that takes it: a match that fails, fails in linear time.
_ANY_SMALL = (
    _counted(b"X", rb"\0\0\0")
    + rb"|[]()}etusaN\x88\x89\x85\x86\x87]|[qhK].|M..|J....|G.{8}|"
    + _counted(b"\x8a")
    + b"|"
    + _counted(b"C")
)
SMALL_PLAIN = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + rb")*\.", re.DOTALL)
"""Nothing in it looks a class up, or calls one."""
SMALL = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + b"|R|" + _GLOBAL + rb")*\.", re.DOTALL)
SMALL_TOKENS = re.compile(_ANY_SMALL + b"|R|" + _GLOBAL, re.DOTALL)

# Of numbers, eight at once: it is the repetition that takes time. That they may be divided in two
# ways does no harm, as nothing follows that could fail. In pieces: for each repetition, a match
# that is under way takes some dozen bytes of memory.
_EIGHT = b"|".join(number * 8 for number in (rb"K.", rb"M..", rb"J....", rb"G.{8}"))
RUN = re.compile(rb"(?:" + _EIGHT + rb"|h.|" + _PLAIN + rb"){1,512}", re.DOTALL)
# An argument may look like the opcode before it: each is found, also within another.
SHARE = re.compile(rb"h(?=(.))", re.DOTALL)
PUT = re.compile(rb"q(?=(.))", re.DOTALL)
_TEXT_OR_SHARE = rb"(?:(?:" + _TEXT + rb")(?:q.|" + _LONG_PUT + rb")?|h.)"
TEXT_KEYS = re.compile(rb"(?:" + _TEXT_OR_SHARE + rb"(?:h.|" + _PLAIN + rb")){1,512}", re.DOTALL)
TOKENS = re.compile(rb"h.|" + _PLAIN, re.DOTALL)
LARGE_INTEGER = re.compile(rb"\x8a[\x09-\xff]")
ONE_PLAIN = re.compile(_NUMBER + rb"|(?:" + _TEXT + rb")(?:q(.)|" + _LONG_PUT + rb")?", re.DOTALL)
"""Its group is the memo's index, if that is of one byte."""
ONE_GLOBAL = re.compile(_GLOBAL)
