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
in one step.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from typing import NamedTuple

MAX_DEPTH = 100
"""Containers within containers. Python's recursion limit is 1000, and ``copy.deepcopy`` needs
several of it for each level."""

MAX_INTEGER_BYTES = 4_096
"""Nearly 10,000 digits. Fractions are reduced when they are rebuilt, in the square of this."""

MAX_EXPANDED_BYTES = 16 * 1024 * 1024
"""Far above what `Limits.event_bytes` lets through where nothing is shared."""

MAX_MEMORY_BYTES = 32 * 1024 * 1024
"""Or 40 times the pickle, if that is more. A plain payload takes up to 30 times: many mappings of
one pair. 700 KB of empty deques would take 130 MB."""

MAX_NUMBER_KEYS = 12_000
"""In one mapping; of several, the root of the sum of squares counts, and a set of twice as many
counts as much. Hashes of text and bytes differ with each process. Those of numbers are known, and
numbers can be chosen so that each is put off by half of those before it: then 12,000 take 0.1 s to
become a mapping and 20,000 take 0.4 s, with the square of their number."""

_HEAD = b"\x80\x03"
_STOP = 0x2E
_GET = 0x68

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
_TUPLE = 8
"""What a class, the call of one, and a tuple count in the expansion: more than their opcodes have,
as it takes time to hash, compare and copy them."""

_PLAIN_TIMES = 12
"""A number of three bytes takes 28 when it is read, and 8 for the place in its list."""
_CONTAINER = 144
"""More than an empty list, mapping or tuple takes, or a `_Node`."""
_FIRST_PAIR, _PAIR, _BYTE_OF_PAIRS = 104, 48, 8
"""What a pair takes in a mapping besides; in a run of plain data, for each byte."""
_ORDERED_PAIR = 130
_MEMBER = 110
"""Of a set, just after it has grown."""
_OBJECTS = {
    b"ccollections\ndeque\n": 800,
    b"ccollections\nOrderedDict\n": 240,
    b"ccollections\nCounter\n": 240,
    b"cbuiltins\nset\n": 240,
    b"cbuiltins\nfrozenset\n": 240,
}
"""What an empty one takes; of all others, what they hold counts, and `_CONTAINER`."""
_ORDERED_NAME = b"ccollections\nOrderedDict\n"
_SETS = (b"cbuiltins\nset\n", b"cbuiltins\nfrozenset\n")
_COUNTER = b"ccollections\nCounter\n"

_FEW_KEYS = 2_000_000
"""Keys of mappings that are neither text, bytes nor a small number, times their bytes: up to here,
whatever their hashes are, it takes less than 0.1 s to compare each with each."""
_NUMBER_BYTES = 10
"""The largest opcode of a number whose hash few others share: an integer of eight bytes."""

_TAKES_NOTHING = "something is put into what cannot take it"


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
_SMALL_PLAIN = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + rb")*\.", re.DOTALL)
"""Nothing in it looks a class up, or calls one."""
_SMALL = re.compile(rb"\x80\x03(?:" + _ANY_SMALL + b"|R|" + _GLOBAL + rb")*\.", re.DOTALL)
_SMALL_TOKENS = re.compile(_ANY_SMALL + b"|R|" + _GLOBAL, re.DOTALL)
_CONTAINERS = b"abesutR\x81\x85\x86\x87"
"""Opcodes that put what is there into something else; nothing nests without one of them."""

# Of numbers, eight at once: it is the repetition that takes time. That they may be divided in two
# ways does no harm, as nothing follows that could fail. In pieces: for each repetition, a match
# that is under way takes some dozen bytes of memory.
_EIGHT = b"|".join(number * 8 for number in (rb"K.", rb"M..", rb"J....", rb"G.{8}"))
_RUN = re.compile(rb"(?:" + _EIGHT + rb"|h.|" + _PLAIN + rb"){1,512}", re.DOTALL)
# An argument may look like the opcode before it: each is found, also within another.
_SHARE = re.compile(rb"h(?=(.))", re.DOTALL)
_PUT = re.compile(rb"q(?=(.))", re.DOTALL)
_TEXT_OR_SHARE = rb"(?:(?:" + _TEXT + rb")(?:q.|" + _LONG_PUT + rb")?|h.)"
_TEXT_KEYS = re.compile(rb"(?:" + _TEXT_OR_SHARE + rb"(?:h.|" + _PLAIN + rb")){1,512}", re.DOTALL)
_TEXTS = re.compile(_TEXT_OR_SHARE + rb"{1,512}", re.DOTALL)
_TOKENS = re.compile(rb"h.|" + _PLAIN, re.DOTALL)
_LARGE_INTEGER = re.compile(rb"\x8a[\x09-\xff]")
_ONE_PLAIN = re.compile(_NUMBER + rb"|(?:" + _TEXT + rb")(?:q(.)|" + _LONG_PUT + rb")?", re.DOTALL)
_SHORT_RUN = 1_024
"""The first of many records is no longer than this: it is worth to know exactly how long its texts
are that the others share."""
_ONE_GLOBAL = re.compile(_GLOBAL)


class OpcodeRefused(pickle.UnpicklingError):
    """A pickle has an opcode, or a use of one, that our own writer does not make."""


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
        len(data) <= _SMALL_BYTES
        and data.count(b"h") <= _SMALL_SHARES
        and len(data) - len(data.translate(None, _CONTAINERS)) <= _SMALL_LEVELS
    ):
        if _SMALL_PLAIN.fullmatch(data):
            return _PLAIN_ALONE
        if (shares is None or _shares_of(data) <= shares) and _SMALL.fullmatch(data):
            return _OBJECTS_TOO
    if not data.startswith(_HEAD):
        raise OpcodeRefused("not a pickle of protocol 3")
    walk = _Walk(data, registered)
    try:
        walk.run()
    except IndexError:
        raise OpcodeRefused("it ends too soon, or takes more from the stack than is there") from (
            None
        )
    return walk.findings()


def _shares_of(data: bytes) -> int:
    return sum(token[0] == _GET for token in _SMALL_TOKENS.findall(data, len(_HEAD)))


class _Node:
    """A container or an object on the stack: how many bytes it would have, and how deep it is.

    What refers to a container that is still on the stack stands next to it, or will stand in it:
    which of the two, the opcodes after it decide. Until then it is in ``refers_to``.
    """

    __slots__ = ("depth", "is_cyclic", "is_open", "refers_to", "weight")

    is_changeable = True

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        self.depth = 1
        self.is_open = True
        self.is_cyclic = False
        self.refers_to: frozenset[_Node] = _NOTHING


class _List(_Node):
    """Knows how many it has: it may become a set."""

    __slots__ = ("members", "numbers", "runs")

    def __init__(self) -> None:
        super().__init__()
        self.members = 0
        self.numbers = 0
        """Of these, the ones that are neither text nor bytes."""
        self.runs: list[bytes] | None = None
        """Plain data in it that is not counted yet."""


class _Tuple(_Node):
    """Knows what it has alone: it may be the argument of a call."""

    __slots__ = ("only",)

    is_changeable = False

    def __init__(self) -> None:
        super().__init__(_TUPLE)
        self.only: _Node | None = None


class _Mapping(_Node):
    """Knows its keys. An object may be one, too."""

    __slots__ = ("at", "numbers", "strange", "strange_bytes")

    def __init__(self, weight: int, at: int) -> None:
        super().__init__(weight)
        self.at = at
        """Where its opcode stands; `_ORDERED` for an ordered one, and `_OBJECT`."""
        self.numbers = 0
        """Keys that are neither text nor bytes."""
        self.strange = 0
        """Of these, the ones that are no small numbers, and their weight."""
        self.strange_bytes = 0


_NOTHING: frozenset[_Node] = frozenset()

_OBJECT, _ORDERED = -1, -2


class _Mark:
    """The opcode MARK on the stack."""

    __slots__ = ()


_MARK = _Mark()


class _Class:
    """A class on the stack, and its opcode."""

    __slots__ = ("name",)

    def __init__(self, name: bytes) -> None:
        self.name = name


_Shared = tuple[int, int, frozenset[_Node], _Node]
"""What the memo gave: weight, depth, what it refers to, and itself. It is not added to any more."""

_Item = int | _Node | _Shared | _Class | _Mark
"""What stands on the stack; plain data as its weight alone, below 0 if it is a number."""


def _node_of(item: _Item) -> _Node | None:
    if isinstance(item, tuple):
        return item[3]
    return item if isinstance(item, _Node) else None


def _bytes_of_key(item: _Item) -> int:
    """0 for text, up to `_NUMBER_BYTES` for a number, more for anything else."""
    if isinstance(item, int):
        return 0 if item >= 0 else -item
    weight = item[0] if isinstance(item, tuple) else item.weight if isinstance(item, _Node) else 0
    return _NUMBER_BYTES + weight


class _Walk:
    """One pass over one pickle, with the stack and the memo of the machine that would load it."""

    def __init__(self, data: bytes, registered: Collection[bytes] = ()) -> None:
        self._data = data
        self._registered = registered
        self._has_objects = bool(registered)
        self._stack: list[_Item] = []
        self._memo: dict[int, int | _Class | _Node] = {}
        self._weighty: set[bytes] = set()
        self._light = [_TOKEN] * 256  # what the memo has at one byte: of a small text, its bytes
        self._at = len(_HEAD)
        self._limit = max(MAX_EXPANDED_BYTES, 2 * len(data))
        self._memory_limit = max(MAX_MEMORY_BYTES, 40 * len(data))
        self._memory = _PLAIN_TIMES * len(data)
        self._numbers = 0
        self._strange = 0
        self._strange_at: set[int] = set()
        self._is_plain = True

    def findings(self) -> Findings:
        if self._strange <= _FEW_KEYS:
            return _PLAIN_ALONE if self._is_plain else _OBJECTS_TOO
        places = sorted(at for at in self._strange_at if at >= 0)
        return Findings(self._is_plain, True, tuple(places))

    def run(self) -> None:
        data, stack = self._data, self._stack
        while True:
            at = self._at
            opcode = data[at]
            if opcode in _PLAIN_OPCODES:
                token = _ONE_PLAIN.match(data, at)
                if token is not None:
                    end = self._at = token.end()
                    if put := token[1]:
                        self._light[put[0]] = end - at
                    stack.append(end - at if opcode in _TEXT_OPCODES else at - end)
                    continue
            if opcode == 0x28:  # MARK
                stack.append(_MARK)
                self._at = at + 1
                self._skip_run()
            elif opcode == _STOP:
                if at + 1 != len(data) or len(stack) != 1 or stack[0] is _MARK:
                    raise OpcodeRefused("something is left over at its end")
                if isinstance(stack[0], _Class):
                    self._refuse_as_value(stack[0])
                return
            else:
                step = _STEPS.get(opcode)
                if step is None:
                    raise OpcodeRefused(f"the opcode {opcode:#04x} at {at}")
                step(self)

    def _skip_run(self) -> None:
        """Take plain data and the opcode that puts all of it into one container, in one step."""
        data = self._data
        begin = end = self._at
        while (piece := _RUN.match(data, end)) is not None:
            end = piece.end()
        if end == begin or (opcode := data[end]) not in b"etu":
            return
        run = data[begin:end]
        # An "h" may be a letter of a text, and a "q": then this looks more exactly than it has to,
        # or takes a text for a longer one.
        shares = _SHARE.findall(run)
        puts = _PUT.findall(run)
        self._at = end
        if (puts and len(run) <= _SHORT_RUN) or not self._weighty.isdisjoint(shares):
            self._push_exactly(run)
            return
        for (index,) in puts:
            self._light[index] = _TOKEN
        stack = self._stack
        stack.pop()
        if opcode == 0x74:  # TUPLE
            self._take(_CONTAINER)
            stack.append(_Tuple())
        node = stack[-1]
        if not isinstance(node, _Node):
            raise OpcodeRefused(_TAKES_NOTHING)
        if opcode == 0x65:  # APPENDS
            if isinstance(node, _List):
                node.runs = node.runs or []
                node.runs.append(run)
        elif opcode == 0x75:  # SETITEMS
            self._put_run_of_pairs(node, run)
        self._weigh(node, len(run) + sum(map(self._light.__getitem__, b"".join(shares))))
        self._at = end + 1

    def _push_exactly(self, run: bytes) -> None:
        at = 0
        while at < len(run):
            if run[at] == _GET:
                self._push_shared(run[at + 1])
                at += 2
            else:
                token = _ONE_PLAIN.match(run, at)
                assert token is not None
                end = token.end()
                self._stack.append(end - at if run[at] in _TEXT_OPCODES else at - end)
                if put := token[1]:
                    self._light[put[0]] = end - at
                at = end

    # What is counted.

    def _weigh(self, node: _Node, weight: int) -> None:
        node.weight += weight
        if node.weight > self._limit:
            raise OpcodeRefused(f"it shares its parts to more than {self._limit:,} bytes")

    def _refuse_as_value(self, cls: _Class) -> None:
        if cls.name not in self._registered:
            name = cls.name[1:-1].replace(b"\n", b".").decode("utf-8", "replace")
            raise OpcodeRefused(f"{name} itself stands in it as a value")

    def _take(self, memory: int) -> None:
        self._memory += memory
        if self._memory > self._memory_limit:
            raise OpcodeRefused(f"it would take more than {self._memory_limit:,} bytes of memory")

    def _take_keys(self, square: int) -> None:
        self._numbers += square
        if self._numbers > MAX_NUMBER_KEYS**2:
            raise OpcodeRefused(
                f"more than {MAX_NUMBER_KEYS:,} keys of mappings, or {2 * MAX_NUMBER_KEYS:,} "
                "members of sets, are neither text nor bytes; a list, of pairs too, may have them"
            )

    def _put_run_of_pairs(self, node: _Node, run: bytes) -> None:
        if not isinstance(node, _Mapping):
            raise OpcodeRefused(_TAKES_NOTHING)
        self._take(_FIRST_PAIR + _BYTE_OF_PAIRS * len(run))
        at = 0
        while (piece := _TEXT_KEYS.match(run, at)) is not None:
            at = piece.end()
        if at < len(run):
            count = (len(_TOKENS.findall(run)) + 1) // 2
            if _LARGE_INTEGER.search(run):
                self._count_keys(node, count, count, len(run))
            else:
                self._count_keys(node, count, 0, 0)

    def _count_keys(self, node: _Mapping, count: int, strange: int, strange_bytes: int) -> None:
        self._take_keys(count * (count + 2 * node.numbers))
        node.numbers += count
        if strange:
            self._strange -= node.strange * node.strange_bytes
            node.strange += strange
            node.strange_bytes += strange_bytes
            self._strange += node.strange * node.strange_bytes
            if node.strange > 1:
                self._strange_at.add(node.at)

    def _count_members(self, source: _List) -> None:
        """Of a list that becomes a set."""
        for run in source.runs or ():
            tokens = _TOKENS.findall(run)
            source.members += len(tokens)
            source.numbers += sum(token[0] not in _TEXT_OR_SHARE_OPCODES for token in tokens)
        source.runs = None
        self._take(_MEMBER * source.members)
        self._take_keys(source.numbers * source.numbers // 4)

    # Each of these is one opcode; they leave the place where the next begins.

    def _list(self) -> None:
        self._take(_CONTAINER)
        self._stack.append(_List())
        self._at += 1

    def _mapping(self) -> None:
        self._take(_CONTAINER)
        self._stack.append(_Mapping(1, self._at))
        self._at += 1

    def _nothing(self) -> None:
        self._stack.append(1)  # there is but one empty tuple
        self._at += 1

    def _counted(self, size_bytes: int, limit: int | None = None) -> int:
        begin = self._at + 1 + size_bytes
        size = int.from_bytes(self._data[self._at + 1 : begin], "little")
        if begin + size > len(self._data) or (limit is not None and size > limit):
            raise OpcodeRefused(f"a length of {size:,} bytes at {self._at}")
        self._at = begin + size
        return size + _TOKEN

    def _text(self) -> None:
        self._stack.append(self._counted(4))

    def _long_integer(self) -> None:
        self._stack.append(-self._counted(4, MAX_INTEGER_BYTES))

    def _global(self) -> None:
        token = _ONE_GLOBAL.match(self._data, self._at)
        if token is None:
            raise OpcodeRefused(f"no name of a class at {self._at}")
        self._is_plain = False
        self._stack.append(_Class(token[0]))
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
        if index < 256:
            if isinstance(item, int) and 0 <= item <= _TOKEN:
                self._light[index] = item
            else:
                self._weighty.add(bytes([index]))

    def _get(self) -> None:
        self._push_shared(self._data[self._at + 1])
        self._at += 2

    def _long_get(self) -> None:
        self._push_shared(int.from_bytes(self._data[self._at + 1 : self._at + 5], "little"))
        self._at += 5

    def _push_shared(self, index: int) -> None:
        item = self._memo.get(index)
        if item is None:
            self._stack.append(self._light[index] if index < 256 else _TOKEN)
            return
        if isinstance(item, int):
            # A run may have put a text in its place, of up to so many bytes.
            self._stack.append(max(item, _TOKEN) if item >= 0 else min(item, -_TOKEN))
            return
        if isinstance(item, _Class):
            self._stack.append(item)
            return
        refers_to = item.refers_to
        if refers_to:
            refers_to = frozenset(one for one in refers_to if one.is_open or one.is_cyclic)
            if any(one.is_cyclic for one in refers_to):
                raise OpcodeRefused("a part that refers back to its whole stands elsewhere as well")
        if item.is_open and item.is_changeable:
            refers_to |= {item}
        self._stack.append((item.weight, item.depth, refers_to, item))

    def _to_mark(self) -> list[_Item]:
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise IndexError

    def _append_marked(self) -> None:
        self._put_items(self._to_mark())

    def _append_one(self) -> None:
        self._put_items([self._stack.pop()])

    def _put_items(self, items: list[_Item]) -> None:
        node = self._put_into(items)
        if isinstance(node, _List):
            node.members += len(items)
            node.numbers += sum(not isinstance(item, int) or item < 0 for item in items)
        self._at += 1

    def _set_marked(self) -> None:
        self._put_pairs(self._to_mark())

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put_pairs([key, value])

    def _put_pairs(self, items: list[_Item]) -> None:
        node = self._stack[-1]
        if not isinstance(node, _Mapping):
            raise OpcodeRefused(_TAKES_NOTHING)
        keys = [_bytes_of_key(item) for item in items[::2]]
        if node.at == _ORDERED:
            self._take(_ORDERED_PAIR * len(keys))
        else:
            self._take(_PAIR * len(keys) + (_FIRST_PAIR if node.weight == 1 else 0))
        self._add(node, items)
        numbers = len(keys) - keys.count(0)
        if numbers:
            strange = [size for size in keys if size > _NUMBER_BYTES]
            self._count_keys(node, numbers, len(strange), sum(strange))
        self._at += 1

    def _put_into(self, items: list[_Item]) -> _Node:
        node = self._stack[-1]
        if not isinstance(node, _Node):
            raise OpcodeRefused(_TAKES_NOTHING)
        self._add(node, items)
        return node

    def _add(self, node: _Node, items: list[_Item]) -> None:
        references: set[_Node] = set()
        for item in items:
            if isinstance(item, int):
                node.weight += item if item >= 0 else -item
                continue
            if isinstance(item, _Mark):
                raise OpcodeRefused("a mark in the middle of something")
            if isinstance(item, _Class):
                self._refuse_as_value(item)
                node.weight += _CLASS
                continue
            if isinstance(item, _Node):
                item.is_open = False
                weight, depth, refers_to = item.weight, item.depth, item.refers_to
            else:
                weight, depth, refers_to, _ = item
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
        self._weigh(node, 0)

    def _tuple(self) -> None:
        self._push_tuple(self._to_mark())

    def _short_tuple(self) -> None:
        count = self._data[self._at] - 0x84
        self._push_tuple([self._stack.pop() for _ in range(count)])

    def _push_tuple(self, items: list[_Item]) -> None:
        self._take(_CONTAINER)
        node = _Tuple()
        self._add(node, items)
        if len(items) == 1:
            node.only = _node_of(items[0])
        self._stack.append(node)
        self._at += 1

    def _call(self) -> None:
        self._is_plain = False
        arguments, function = self._stack.pop(), self._stack.pop()
        name = function.name if isinstance(function, _Class) else b""
        self._take(_OBJECTS.get(name, _CONTAINER))
        held = _node_of(arguments)
        source = held.only if isinstance(held, _Tuple) else None
        if isinstance(source, _List) and name in _SETS:
            self._count_members(source)
        elif isinstance(source, _Mapping) and name == _COUNTER:
            self._take(_BYTE_OF_PAIRS * source.weight)
            self._take_keys(source.numbers * source.numbers)
        node = _Mapping(_CALL, _ORDERED if name == _ORDERED_NAME else _OBJECT)
        self._add(node, [arguments] if isinstance(function, _Class) else [arguments, function])
        self._stack.append(node)
        self._at += 1

    def _object(self) -> None:
        # Of a class that is not registered: the reader refuses it at this place, by its name.
        self._has_objects = True
        self._call()

    def _state(self) -> None:
        if not self._has_objects:
            raise OpcodeRefused("the state of an object, where no classes are registered")
        self._is_plain = False
        self._put_into([self._stack.pop()])
        self._at += 1


_PLAIN_OPCODES = frozenset(b"N\x88\x89KMJGXC\x8a")
_TEXT_OPCODES = frozenset(b"XC")
_TEXT_OR_SHARE_OPCODES = frozenset(b"XCh")

_STEPS = {
    ord("]"): _Walk._list,
    ord("}"): _Walk._mapping,
    ord(")"): _Walk._nothing,
    ord("X"): _Walk._text,
    ord("B"): _Walk._text,
    0x8B: _Walk._long_integer,
    ord("c"): _Walk._global,
    ord("q"): _Walk._put,
    ord("r"): _Walk._long_put,
    ord("h"): _Walk._get,
    ord("j"): _Walk._long_get,
    ord("e"): _Walk._append_marked,
    ord("u"): _Walk._set_marked,
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
