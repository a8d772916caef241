"""What it would cost to load a pickle: nesting, size, memory, and the time to compare keys.

`pickle_check` walks over the opcodes as the machine would that loads the pickle. This module has
what that walk keeps in place of values: the items on its stack, its memo, and a `Tally` of memory
and keys. It also has the limits, and each part raises `OpcodeRefused` where a pickle goes beyond
one. Which opcode does what is up to `pickle_check`.

The weight of a value is the number of bytes that its opcodes would have if each part that it
shares were written out in every place where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable

from .opcodes import (
    LARGE_INTEGER,
    TEXT_KEYS,
    TEXT_OR_SHARE_OPCODES,
    TOKEN_BYTES,
    TOKENS,
    OpcodeRefused,
)

# The limits.

MAX_DEPTH = 100
"""Containers within containers. Python's recursion limit is 1000, and ``copy.deepcopy`` needs
several levels of it for each container."""

MAX_INTEGER_BYTES = 4_096
"""The longest integer, of nearly 10,000 digits. A Fraction is reduced when it is rebuilt, which
takes time with the square of this."""

MAX_EXPANDED_BYTES = 16 * 1024 * 1024
"""The largest weight of a value, or twice the bytes of the pickle if that is more. A payload that
shares nothing stays far below: `Limits.event_bytes` is 1 MiB by default."""

MAX_MEMORY_BYTES = 32 * 1024 * 1024
"""The most memory that loading may take, or 40 times the bytes of the pickle if that is more. A
plain payload takes up to 30 times its pickle (many mappings of one pair); without this limit,
700 KB of empty deques would take 130 MB."""

MAX_NUMBER_KEYS = 12_000
"""The most keys of one mapping that are neither text nor bytes. For several mappings, the root of
the sum of the squares counts; a set may have twice as many members. Hashes of text and bytes differ
in each process, but those of numbers are known: a sender can choose numbers so that each is put off
by half of those before it. Then 12,000 take 0.1 s to become a mapping and 20,000 take 0.4 s: the
time grows with the square of their count."""

MAX_REFERENCES = 256
"""The most references within one container to containers that are not complete yet. The walk copies
the set of them at each step."""

FEW_KEYS = 2_000_000
"""The most unusual keys whose hashes need no look: their count times their bytes, summed over all
mappings. Even if all these hashes are equal, Python compares each with each in less than 0.1 s."""

NUMBER_BYTES = 10
"""The bytes of the largest opcode for a number that counts as usual: an integer of eight bytes. Few
others share its hash. A key is unusual if it is neither text, nor bytes, nor such a number."""

# Weights.

_CLASS_WEIGHT = 16
CALL_WEIGHT = 64
_TUPLE_WEIGHT = 8
"""The weight of a class, of a call, and of a tuple. Each is more than the bytes of the opcodes, as
these values take time to hash, compare and copy."""

# Memory, in bytes.

_PLAIN_TIMES = 12
"""For each byte of the pickle: a number whose opcode has three bytes takes 28, and 8 more for its
place in a list."""
_CONTAINER = 144
"""More than an empty list, mapping or tuple takes, or a `Node`."""
_FIRST_PAIR, _PAIR, _BYTE_OF_PAIRS = 104, 48, 8
"""What a mapping takes, beyond its empty self, for its first pair, for each pair, and for each byte
of a run of plain pairs."""
_ORDERED_PAIR = 130
_MEMBER = 110
"""For each member of a set, when the set has just grown."""

ORDERED_NAME = b"ccollections\nOrderedDict\n"
_COUNTER_NAME = b"ccollections\nCounter\n"
_SET_NAMES = (b"cbuiltins\nset\n", b"cbuiltins\nfrozenset\n")
_OBJECTS = {
    b"ccollections\ndeque\n": 800,
    ORDERED_NAME: 240,
    _COUNTER_NAME: 240,
    **dict.fromkeys(_SET_NAMES, 240),
}
"""What an empty object of a class takes; one of another class counts as `_CONTAINER`. What an
object holds is counted on its own."""

# The items on the stack.

OBJECT, ORDERED = -1, -2
"""`Mapping.at` where no opcode makes a mapping: for an object, and for an ordered mapping."""


class Node:
    """A container or an object on the stack: its weight, and how deep it is nested.

    A pickle may refer to a container that is still on the stack. Only later opcodes decide whether
    the reference ends up beside that container, or inside it and so makes a cycle. Until then,
    ``refers_to`` of the node that holds the reference has that container.

    Args:
        weight: of the container while it is empty.
    """

    __slots__ = ("depth", "is_cyclic", "is_open", "refers_to", "weight")

    is_changeable = True

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight
        self.depth = 1
        self.is_open = True
        self.is_cyclic = False
        self.refers_to: frozenset[Node] = _NOTHING

    def add(self, items: Iterable[Item]) -> None:
        """Put items from the stack into this container.

        Raises:
            OpcodeRefused: an item is a mark, or a class that may not be a value; or the container
                is nested too deep, or refers to too many others.
        """
        references: set[Node] = set()
        for item in items:
            if isinstance(item, int):
                self.weight += item if item >= 0 else -item
                continue
            if isinstance(item, Mark):
                raise OpcodeRefused("a mark stands where a value belongs")
            if isinstance(item, Class):
                item.check_as_value()
                self.weight += _CLASS_WEIGHT
                continue
            if isinstance(item, Node):
                item.is_open = False
                weight, depth, refers_to = item.weight, item.depth, item.refers_to
            else:
                weight, depth, refers_to, _ = item
            self.weight += weight
            references.update(refers_to)
            if depth >= self.depth:
                self.depth = depth + 1
        if references:
            self._refer_to(references)
        if self.depth > MAX_DEPTH:
            raise OpcodeRefused(f"containers are nested more than {MAX_DEPTH} deep")

    def shared(self) -> Shared:
        """Return what a read of the memo pushes for this node.

        Raises:
            OpcodeRefused: it refers back to a whole that it is a part of.
        """
        refers_to = self.refers_to
        if refers_to:
            refers_to = frozenset(one for one in refers_to if one.is_open or one.is_cyclic)
            if any(one.is_cyclic for one in refers_to):
                raise OpcodeRefused(
                    "a part that refers back to its whole is also used outside of that whole"
                )
        if self.is_open and self.is_changeable:
            refers_to |= {self}
        return self.weight, self.depth, refers_to, self

    def _refer_to(self, references: set[Node]) -> None:
        self.is_cyclic = self.is_cyclic or self in references
        # A container that is closed by now and has no cycle has ended up beside the reference.
        references.update(self.refers_to)
        self.refers_to = frozenset(
            one for one in references if one is not self and (one.is_open or one.is_cyclic)
        )
        if len(self.refers_to) > MAX_REFERENCES:
            raise OpcodeRefused("too many references to containers that are not complete yet")


class List(Node):
    """A list on the stack. It counts its members, as it may become a set."""

    __slots__ = ("members", "numbers", "runs")

    def __init__(self) -> None:
        super().__init__()
        self.members = 0
        self.numbers = 0
        """Members that are neither text nor bytes."""
        self.runs: list[bytes] | None = None
        """Runs of plain data in it that are not counted yet."""


class Tuple(Node):
    """A tuple on the stack. It knows its only part, as it may be the arguments of a call."""

    __slots__ = ("only",)

    is_changeable = False

    def __init__(self) -> None:
        super().__init__(_TUPLE_WEIGHT)
        self.only: Node | None = None


class Mapping(Node):
    """A mapping on the stack, or an object, which may be one. It counts its keys.

    Args:
        weight: of the mapping while it is empty.
        at: the offset of the opcode that makes it; `ORDERED` for an ordered mapping, and `OBJECT`
            for any other object.
    """

    __slots__ = ("at", "numbers", "unusual", "unusual_bytes")

    def __init__(self, weight: int, at: int) -> None:
        super().__init__(weight)
        self.at = at
        self.numbers = 0
        """Keys that are neither text nor bytes."""
        self.unusual = 0
        self.unusual_bytes = 0
        """The unusual ones of these (see `NUMBER_BYTES`): their count, and their weight."""


_NOTHING: frozenset[Node] = frozenset()


class Mark:
    """What the opcode MARK pushes."""

    __slots__ = ()


THE_MARK = Mark()


class Class:
    """A class on the stack.

    Args:
        name: the opcode that looks it up, with its argument.
        may_be_value: whether a payload may hold the class itself.
    """

    __slots__ = ("_may_be_value", "name")

    def __init__(self, name: bytes, may_be_value: bool) -> None:
        self.name = name
        self._may_be_value = may_be_value

    def check_as_value(self) -> None:
        """Refuse the class where nothing calls it, unless it may be a value there.

        Raises:
            OpcodeRefused: it may not.
        """
        if not self._may_be_value:
            name = self.name[1:-1].replace(b"\n", b".").decode("utf-8", "replace")
            raise OpcodeRefused(f"the class {name} itself is in it as a value")


Shared = tuple[int, int, frozenset[Node], Node]
"""A node as a read of the memo pushes it: weight, depth, references, and the node itself. No opcode
adds anything to it."""

Item = int | Node | Shared | Class | Mark
"""What is on the stack. Plain data is there as its weight alone, negative for a number."""


def node_of(item: Item) -> Node | None:
    """Return the container or object that an item is, also if it came from the memo."""
    if isinstance(item, tuple):
        return item[3]
    return item if isinstance(item, Node) else None


def key_bytes(item: Item) -> int:
    """Return 0 for text and bytes, up to `NUMBER_BYTES` for a usual number, more for other keys."""
    if isinstance(item, int):
        return 0 if item >= 0 else -item
    weight = item[0] if isinstance(item, tuple) else item.weight if isinstance(item, Node) else 0
    return NUMBER_BYTES + weight


class Memo:
    """What a pickle has put into its memo, each value as its weight or its item.

    Args:
        largest: the largest index that is taken.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._items: dict[int, int | Class | Node] = {}
        self._weighty: set[bytes] = set()
        self.light = [TOKEN_BYTES] * 256
        """For each index below 256, the weight of the small text there. The walk writes these
        itself, as most reads of the memo in a run are of small texts."""

    def put(self, index: int, stack: list[Item]) -> None:
        """Remember the top of the stack.

        Raises:
            OpcodeRefused: the index is too large, or the top is a mark or came from the memo.
            IndexError: the stack is empty.
        """
        if index > self._largest:
            raise OpcodeRefused(f"the memo index {index:,} is larger than the pickle")
        item = stack[-1]
        if isinstance(item, (Mark, tuple)):
            raise OpcodeRefused("it puts into the memo what is not a new value")
        self._items[index] = item
        if index < 256:
            if isinstance(item, int) and 0 <= item <= TOKEN_BYTES:
                self.light[index] = item
            else:
                self._weighty.add(bytes([index]))

    def get(self, index: int) -> Item:
        """Return what a read of this index pushes."""
        item = self._items.get(index)
        if item is None:
            return self.light[index] if index < 256 else TOKEN_BYTES
        if isinstance(item, int):
            # A run that was skipped may have put a text there since, of up to this many bytes.
            return max(item, TOKEN_BYTES) if item >= 0 else min(item, -TOKEN_BYTES)
        return item if isinstance(item, Class) else item.shared()

    def are_light(self, indices: Iterable[bytes]) -> bool:
        """Tell whether only small texts were put at these indices, each given as its byte."""
        return self._weighty.isdisjoint(indices)


class Tally:
    """Counts the memory that loading one pickle takes, and the keys that it has to compare.

    Each method that takes something raises `OpcodeRefused` where that goes beyond a limit.

    Args:
        size: of the pickle, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.memory = _PLAIN_TIMES * size
        """Bytes counted so far."""
        self._memory_limit = max(MAX_MEMORY_BYTES, 40 * size)
        self._number_squares = 0
        self._unusual = 0
        self._unusual_at: set[int] = set()

    @property
    def needs_key_check(self) -> bool:
        """Whether there are so many unusual keys that somebody has to look at their hashes."""
        return self._unusual > FEW_KEYS

    def mappings_at(self) -> tuple[int, ...]:
        """Return the offsets of the opcodes that make a mapping of two or more unusual keys.

        Ordered mappings and objects are not among them.
        """
        return tuple(sorted(at for at in self._unusual_at if at >= 0))

    def take_container(self) -> None:
        """Count an empty list, mapping or tuple."""
        self._take(_CONTAINER)

    def take_pairs(self, node: Mapping, count: int) -> None:
        """Count more pairs of a mapping; to be called before their weight is added to it."""
        if node.at == ORDERED:
            self._take(_ORDERED_PAIR * count)
        else:
            self._take(_PAIR * count + (_FIRST_PAIR if node.weight == 1 else 0))

    def take_keys(self, node: Mapping, sizes: list[int]) -> None:
        """Count the keys of these pairs, each given as its `key_bytes`."""
        numbers = len(sizes) - sizes.count(0)
        if numbers:
            unusual = [size for size in sizes if size > NUMBER_BYTES]
            self._take_number_keys(node, numbers, len(unusual), sum(unusual))

    def take_run_of_pairs(self, node: Mapping, run: bytes) -> None:
        """Count all the pairs that one opcode puts into a mapping, where they are plain data."""
        self._take(_FIRST_PAIR + _BYTE_OF_PAIRS * len(run))
        at = 0
        while (piece := TEXT_KEYS.match(run, at)) is not None:
            at = piece.end()
        if at < len(run):
            count = (len(TOKENS.findall(run)) + 1) // 2
            if LARGE_INTEGER.search(run):
                self._take_number_keys(node, count, count, len(run))
            else:
                self._take_number_keys(node, count, 0, 0)

    def take_call(self, name: bytes, argument: Node | None) -> None:
        """Count the object that a call makes.

        Args:
            name: the opcode that looks up the class, or nothing if something else is called.
            argument: the only argument, if there is one and it is a container or an object.
        """
        self._take(_OBJECTS.get(name, _CONTAINER))
        if isinstance(argument, List) and name in _SET_NAMES:
            self._take_members(argument)
        elif isinstance(argument, Mapping) and name == _COUNTER_NAME:
            self._take(_BYTE_OF_PAIRS * argument.weight)
            self._take_squares(argument.numbers * argument.numbers)

    def _take_members(self, source: List) -> None:
        """Count the members of a list that becomes a set."""
        for run in source.runs or ():
            tokens = TOKENS.findall(run)
            source.members += len(tokens)
            source.numbers += sum(token[0] not in TEXT_OR_SHARE_OPCODES for token in tokens)
        source.runs = None
        self._take(_MEMBER * source.members)
        self._take_squares(source.numbers * source.numbers // 4)

    def _take_number_keys(
        self, node: Mapping, count: int, unusual: int, unusual_bytes: int
    ) -> None:
        # The square of old and new keys together, less the square of the old, counted before.
        self._take_squares(count * (count + 2 * node.numbers))
        node.numbers += count
        if unusual:
            self._unusual -= node.unusual * node.unusual_bytes
            node.unusual += unusual
            node.unusual_bytes += unusual_bytes
            self._unusual += node.unusual * node.unusual_bytes
            if node.unusual > 1:
                self._unusual_at.add(node.at)

    def _take(self, memory: int) -> None:
        self.memory += memory
        if self.memory > self._memory_limit:
            raise OpcodeRefused(f"it would take more than {self._memory_limit:,} bytes of memory")

    def _take_squares(self, squares: int) -> None:
        self._number_squares += squares
        if self._number_squares > MAX_NUMBER_KEYS**2:
            raise OpcodeRefused(
                f"more than {MAX_NUMBER_KEYS:,} keys of mappings, or {2 * MAX_NUMBER_KEYS:,} "
                "members of sets, are neither text nor bytes: put them into a list, or into a list "
                "of pairs"
            )
