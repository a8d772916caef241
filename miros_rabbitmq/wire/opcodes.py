"""The opcodes of a pickle, looked at before it is loaded.

`pickle.Unpickler` asks its ``find_class`` about classes and about nothing else: an extension code
that the program has used before, a memo index of four thousand millions, a tuple of tuples that is
two to the power of fifty elements when it is hashed, all are taken from a hundred bytes. So a
pickle is walked here first. Taken are the opcodes that Python's own pickler writes for protocol 3,
and of these only what stays within bounds:

    memo        an index is not larger than the pickle has bytes
    lengths     texts and bytes lie within the pickle; integers have at most `MAX_INTEGER_BYTES`
    depth       containers stand at most `MAX_DEPTH` deep in each other
    expansion   with every shared part written out wherever it stands, it would have at most
                `MAX_EXPANDED_BYTES`: this bounds what is hashed, copied or printed
    memory      what it makes takes at most `MAX_MEMORY_BYTES`
    keys        mappings and sets have at most `MAX_NUMBER_KEYS` of what is neither text nor bytes;
                mappings that have many keys of other kinds are named to the caller
    cycles      a value may contain itself, but nothing outside of it may share the parts of it
                that refer back to it

Opcodes: Lib/pickletools.py of CPython describes each. A small event is passed by one regular
expression, in about a microsecond; everything else is walked opcode by opcode, runs of plain data
in one step. The bounds are in `opcode_bounds`, the expressions in `opcode_grammar`, the walk in
`opcode_walk`; what it has on its stack in `opcode_nodes`, its memo in `opcode_memo`, and what it
counts besides in `opcode_tally`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from .opcode_bounds import MAX_DEPTH, OpcodeRefused
from .opcode_grammar import CONTAINERS, GET, HEAD, SMALL, SMALL_PLAIN, SMALL_TOKENS
from .opcode_walk import Walk

__all__ = ["Findings", "OpcodeRefused", "check_opcodes"]

SMALL_BYTES = 1_024
SMALL_LEVELS = MAX_DEPTH
SMALL_SHARES = 16
"""Below these, depth and expansion hold whatever the opcodes are: each level takes an opcode, and
each share at most doubles."""
# Python finds the method of a name that is imported more slowly than that of one of its own.
_match_small_plain, _match_small = SMALL_PLAIN.fullmatch, SMALL.fullmatch


class Findings(NamedTuple):
    """What the opcodes say."""

    is_plain: bool
    """No opcode looks a class up, by name or by number, or calls one."""
    has_strange_keys: bool = False
    """So many keys of mappings are neither text, bytes nor small numbers that their hashes have to
    be looked at before any mapping is made."""
    strange_at: tuple[int, ...] = ()
    """Where the opcodes of these mappings stand, but for ordered ones."""


_PLAIN_ALONE = Findings(is_plain=True)
_OBJECTS_TOO = Findings(is_plain=False)


def check_opcodes(
    data: bytes, *, registered: Collection[bytes] = (), shares: int | None = None
) -> Findings:
    """Look at every opcode of a pickle; from any thread.

    Args:
        data: the pickle.
        registered: the classes that may stand in it as values, and whose objects have a state;
            each as its opcode.
        shares: how many opcodes take something from the memo if no class stands as a value; with
            None, such a class is let pass in a small pickle.

    Raises:
        OpcodeRefused: it is not one of protocol 3, or goes beyond a bound.
    """
    if (
        len(data) <= SMALL_BYTES
        and data.count(b"h") <= SMALL_SHARES
        and len(data) - len(data.translate(None, CONTAINERS)) <= SMALL_LEVELS
    ):
        if _match_small_plain(data):
            return _PLAIN_ALONE
        if (shares is None or _shares_of(data) <= shares) and _match_small(data):
            return _OBJECTS_TOO
    if not data.startswith(HEAD):
        raise OpcodeRefused("not a pickle of protocol 3")
    walk = Walk(data, registered)
    try:
        walk.run()
    except IndexError:
        raise OpcodeRefused("it ends too soon, or takes more from the stack than is there") from (
            None
        )
    if not walk.tally.has_strange_keys:
        return _PLAIN_ALONE if walk.is_plain else _OBJECTS_TOO
    return Findings(walk.is_plain, has_strange_keys=True, strange_at=walk.tally.strange_at())


def _shares_of(data: bytes) -> int:
    return sum(token[0] == GET for token in SMALL_TOKENS.findall(data, len(HEAD)))
