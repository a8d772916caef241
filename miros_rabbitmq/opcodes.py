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
    cycles      a value may contain itself, but nothing outside of it may share the parts of it
                that refer back to it

Opcodes: Lib/pickletools.py of CPython describes each. A small event is passed by one regular
expression, in about a microsecond; everything else is walked opcode by opcode, runs of plain data
in one step.
"""

from __future__ import annotations

import pickle
import re

MAX_DEPTH = 100
"""Containers within containers. Python's recursion limit is 1000, and ``copy.deepcopy`` needs
several of it for each level."""

MAX_INTEGER_BYTES = 4_096
"""Nearly 10,000 digits. Fractions are reduced when they are rebuilt, in the square of this."""

MAX_EXPANDED_BYTES = 16 * 1024 * 1024
"""Far above what `Limits.event_bytes` lets through where nothing is shared."""

_HEAD = b"\x80\x03"
_STOP = 0x2E

_SMALL_BYTES = 1_024
_SMALL_LEVELS = MAX_DEPTH
_SMALL_SHARES = 16
"""Below these, depth and expansion hold whatever the opcodes are: each level takes an opcode, and
each share at most doubles."""

_TOKEN = 270
"""More than the bytes of any token that the regular expressions know."""

_MAX_REFERENCES = 256
"""Within one container, to others that are not complete: their sets are copied at each step."""

_CLASS = 16
_CALL = 64
"""What a class and the call of one count: an object that is rebuilt is larger than its opcode."""


def _counted(opcode: bytes, tail: bytes = b"") -> bytes:
    """Match an opcode, a length below 256 (whose upper bytes are in ``tail``), and its bytes."""
    sizes = (
        re.escape(bytes([size])) + tail + (b".{%d}" % size if size else b"") for size in range(256)
    )
    return re.escape(opcode) + b"(?:" + b"|".join(sizes) + b")"


_NUMBER = rb"[N\x88\x89]|K.|M..|J....|G.{8}|" + _counted(b"\x8a")
_TEXT = _counted(b"X", rb"\0\0\0") + b"|" + _counted(b"C")
_PLAIN = _NUMBER + rb"|(?:" + _TEXT + rb")(?:q.|r..\0\0)?"
_GLOBAL = rb"c[^\n]{1,255}\n[^\n]{1,255}\n"

# Every byte has but one alternative that takes it: a match that fails, fails in linear time.
_ANY_SMALL = (
    _counted(b"X", rb"\0\0\0")
    + rb"|[]()}etusaN\x88\x89\x85\x86\x87]|[qhK].|M..|J....|G.{8}|"
    + _counted(b"\x8a")
    + b"|"
    + _counted(b"C")
)
_SMALL_PLAIN = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + rb")*\.", re.DOTALL)
"""Nothing in it looks a class up, or calls one."""
_SMALL = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + b"|R|" + _GLOBAL + rb")*\.", re.DOTALL)
_CONTAINERS = b"abesutR\x81\x85\x86\x87"
"""Opcodes that put what is there into something else; nothing nests without one of them."""

# Of numbers, eight at once: it is the repetition that takes time. That they may be divided in two
# ways does no harm, as nothing follows that could fail. In pieces: for each repetition, a match
# that is under way takes some dozen bytes of memory.
_EIGHT = b"|".join(number * 8 for number in (rb"K.", rb"M..", rb"J....", rb"G.{8}"))
_RUN = re.compile(rb"(?:" + _EIGHT + rb"|h.|" + _PLAIN + rb"){1,512}", re.DOTALL)
_SHARE = re.compile(rb"h(.)", re.DOTALL)
_ONE_PLAIN = re.compile(_PLAIN, re.DOTALL)
_ONE_GLOBAL = re.compile(_GLOBAL)


class OpcodeRefused(pickle.UnpicklingError):
    """A pickle has an opcode, or a use of one, that our own writer does not make."""


def check_opcodes(data: bytes, *, objects: bool) -> bool:
    """Look at every opcode of a pickle; from any thread.

    Args:
        data: the pickle.
        objects: whether the harmless objects in it may be given a state, as the reader of
            registered classes has to let them.

    Returns:
        Whether it is plain: no opcode in it looks a class up, by name or by number, or calls one.

    Raises:
        OpcodeRefused: it is not one of protocol 3, or goes beyond a bound.
    """
    if (
        len(data) <= _SMALL_BYTES
        and data.count(b"h") <= _SMALL_SHARES
        and len(data) - len(data.translate(None, _CONTAINERS)) <= _SMALL_LEVELS
    ):
        if _SMALL_PLAIN.fullmatch(data):
            return True
        if _SMALL.fullmatch(data):
            return False
    if not data.startswith(_HEAD):
        raise OpcodeRefused("not a pickle of protocol 3")
    walk = _Walk(data, objects)
    try:
        walk.run()
    except IndexError:
        raise OpcodeRefused("it ends too soon, or takes more from the stack than is there") from (
            None
        )
    return walk.is_plain


class _Node:
    """A container on the stack: how many bytes it would have, and how deep it is.

    What refers to a container that is still on the stack stands next to it, or will stand in it:
    which of the two, the opcodes after it decide. Until then it is in ``refers_to``.
    """

    __slots__ = ("depth", "is_changeable", "is_cyclic", "is_open", "refers_to", "weight")

    def __init__(self, weight: int, *, is_changeable: bool) -> None:
        self.weight = weight
        self.depth = 1
        self.is_changeable = is_changeable
        self.is_open = True
        self.is_cyclic = False
        self.refers_to: frozenset[_Node] = _NOTHING


_NOTHING: frozenset[_Node] = frozenset()


class _Mark:
    """The opcode MARK on the stack."""

    __slots__ = ()


_MARK = _Mark()

_Shared = tuple[int, int, frozenset[_Node]]
"""What the memo gave: weight, depth, and what it refers to. It cannot be added to any more."""

_Item = int | _Node | _Shared | _Mark
"""What stands on the stack; plain data as its weight alone."""


class _Walk:
    """One pass over one pickle, with the stack and the memo of the machine that would load it."""

    def __init__(self, data: bytes, objects: bool) -> None:
        self.is_plain = True
        self._data = data
        self._objects = objects
        self._stack: list[_Item] = []
        self._memo: dict[int, int | _Node] = {}
        self._weighty: set[bytes] = set()
        self._at = len(_HEAD)
        self._limit = max(MAX_EXPANDED_BYTES, 2 * len(data))

    def run(self) -> None:
        data, stack = self._data, self._stack
        while True:
            at = self._at
            opcode = data[at]
            if opcode in _PLAIN_OPCODES:
                token = _ONE_PLAIN.match(data, at)
                if token is not None:
                    self._at = token.end()
                    stack.append(self._at - at)
                    continue
            if opcode == 0x28:  # MARK
                stack.append(_MARK)
                self._at = at + 1
                self._skip_run()
            elif opcode == _STOP:
                if at + 1 != len(data) or len(stack) != 1 or stack[0] is _MARK:
                    raise OpcodeRefused("something is left over at its end")
                return
            else:
                step = _STEPS.get(opcode)
                if step is None:
                    raise OpcodeRefused(f"the opcode {opcode:#04x} at {at}")
                step(self)

    def _skip_run(self) -> None:
        """Take plain data up to the opcode that puts all of it into one container, in one step."""
        data = self._data
        begin = end = self._at
        while (piece := _RUN.match(data, end)) is not None:
            end = piece.end()
        if end == begin or data[end] not in b"etu":
            return
        self._at = end
        run = data[begin:end]
        # An "h" may be a letter of a text, too: then this looks more exactly than it has to.
        shares = _SHARE.findall(run)
        if self._weighty.isdisjoint(shares):
            self._stack.append(len(run) + len(shares) * _TOKEN)
        else:
            self._push_exactly(run)

    def _push_exactly(self, run: bytes) -> None:
        at = 0
        while at < len(run):
            if run[at] == 0x68:
                self._push_shared(run[at + 1])
                at += 2
            else:
                token = _ONE_PLAIN.match(run, at)
                assert token is not None
                self._stack.append(token.end() - at)
                at = token.end()

    # Each of these is one opcode; they leave the place where the next begins.

    def _empty(self) -> None:
        self._stack.append(_Node(1, is_changeable=True))
        self._at += 1

    def _counted(self, size_bytes: int, limit: int | None = None) -> None:
        begin = self._at + 1 + size_bytes
        size = int.from_bytes(self._data[self._at + 1 : begin], "little")
        if begin + size > len(self._data) or (limit is not None and size > limit):
            raise OpcodeRefused(f"a length of {size:,} bytes at {self._at}")
        self._stack.append(size + _TOKEN)
        self._at = begin + size

    def _text(self) -> None:
        self._counted(4)

    def _long_integer(self) -> None:
        self._counted(4, MAX_INTEGER_BYTES)

    def _global(self) -> None:
        token = _ONE_GLOBAL.match(self._data, self._at)
        if token is None:
            raise OpcodeRefused(f"no name of a class at {self._at}")
        self.is_plain = False
        self._stack.append(_CLASS)
        self._at = token.end()

    def _put(self) -> None:
        self._remember(self._data[self._at + 1])
        self._at += 2

    def _long_put(self) -> None:
        self._remember(int.from_bytes(self._data[self._at + 1 : self._at + 5], "little"))
        self._at += 5

    def _remember(self, index: int) -> None:
        if index > len(self._data):
            raise OpcodeRefused(f"the memo index {index:,}")
        item = self._stack[-1]
        if isinstance(item, (_Mark, tuple)):
            raise OpcodeRefused("a memo of what is none of its own")
        self._memo[index] = item
        if index < 256 and not (isinstance(item, int) and item <= _TOKEN):
            self._weighty.add(bytes([index]))

    def _get(self) -> None:
        self._push_shared(self._data[self._at + 1])
        self._at += 2

    def _long_get(self) -> None:
        self._push_shared(int.from_bytes(self._data[self._at + 1 : self._at + 5], "little"))
        self._at += 5

    def _push_shared(self, index: int) -> None:
        item = self._memo.get(index, _TOKEN)
        if isinstance(item, int):
            self._stack.append(item)
            return
        refers_to = item.refers_to
        if refers_to:
            refers_to = frozenset(one for one in refers_to if one.is_open or one.is_cyclic)
            if any(one.is_cyclic for one in refers_to):
                raise OpcodeRefused("a part that refers back to its whole stands elsewhere as well")
        if item.is_open and item.is_changeable:
            refers_to |= {item}
        self._stack.append((item.weight, item.depth, refers_to))

    def _to_mark(self) -> list[_Item]:
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise IndexError

    def _append_marked(self) -> None:
        self._put_into(self._to_mark())
        self._at += 1

    def _append_one(self) -> None:
        self._put_into([self._stack.pop()])
        self._at += 1

    def _set_one(self) -> None:
        self._put_into([self._stack.pop(), self._stack.pop()])
        self._at += 1

    def _put_into(self, items: list[_Item]) -> None:
        node = self._stack[-1]
        if not isinstance(node, _Node):
            raise OpcodeRefused("something is put into what cannot take it")
        self._add(node, items)

    def _add(self, node: _Node, items: list[_Item]) -> None:
        references: set[_Node] = set()
        for item in items:
            if isinstance(item, int):
                node.weight += item
                continue
            if isinstance(item, _Mark):
                raise OpcodeRefused("a mark in the middle of something")
            if isinstance(item, _Node):
                item.is_open = False
                weight, depth, refers_to = item.weight, item.depth, item.refers_to
            else:
                weight, depth, refers_to = item
            node.weight += weight
            references.update(refers_to)
            if depth >= node.depth:
                node.depth = depth + 1
        if references:
            node.is_cyclic = node.is_cyclic or node in references
            # What was put into the same container is complete by now, and was a neighbour.
            references.update(node.refers_to)
            node.refers_to = frozenset(
                one for one in references if one is not node and (one.is_open or one.is_cyclic)
            )
            if len(node.refers_to) > _MAX_REFERENCES:
                raise OpcodeRefused("too many references to what is not complete yet")
        if node.depth > MAX_DEPTH:
            raise OpcodeRefused(f"containers stand more than {MAX_DEPTH} deep in each other")
        if node.weight > self._limit:
            raise OpcodeRefused(f"it shares its parts to more than {self._limit:,} bytes")

    def _tuple(self) -> None:
        node = _Node(1, is_changeable=False)
        self._add(node, self._to_mark())
        self._stack.append(node)
        self._at += 1

    def _short_tuple(self) -> None:
        count = self._data[self._at] - 0x84
        items = [self._stack.pop() for _ in range(count)]
        node = _Node(1, is_changeable=False)
        self._add(node, items)
        self._stack.append(node)
        self._at += 1

    def _call(self) -> None:
        self.is_plain = False
        arguments, function = self._stack.pop(), self._stack.pop()
        node = _Node(_CALL, is_changeable=True)
        self._add(node, [arguments, function])
        self._stack.append(node)
        self._at += 1

    def _object(self) -> None:
        # Of a class that is not registered: the reader refuses it at this place, by its name.
        self._objects = True
        self._call()

    def _state(self) -> None:
        if not self._objects:
            raise OpcodeRefused("the state of an object, where no classes are registered")
        self.is_plain = False
        self._put_into([self._stack.pop()])
        self._at += 1


_PLAIN_OPCODES = frozenset(b"N\x88\x89KMJGXC\x8a")

_STEPS = {
    ord("]"): _Walk._empty,
    ord("}"): _Walk._empty,
    ord(")"): _Walk._empty,
    ord("X"): _Walk._text,
    ord("B"): _Walk._text,
    0x8B: _Walk._long_integer,
    ord("c"): _Walk._global,
    ord("q"): _Walk._put,
    ord("r"): _Walk._long_put,
    ord("h"): _Walk._get,
    ord("j"): _Walk._long_get,
    ord("e"): _Walk._append_marked,
    ord("u"): _Walk._append_marked,
    ord("a"): _Walk._append_one,
    ord("s"): _Walk._set_one,
    ord("t"): _Walk._tuple,
    0x85: _Walk._short_tuple,
    0x86: _Walk._short_tuple,
    0x87: _Walk._short_tuple,
    ord("R"): _Walk._call,
    0x81: _Walk._object,
    ord("b"): _Walk._state,
}
