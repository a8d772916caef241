"""What stands on the stack while the opcodes of a pickle are walked: not values, but their sizes.

A size is called weight: how many bytes of opcodes something would have if each part of it that is
shared were written out wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from .opcode_bounds import MAX_DEPTH, MAX_REFERENCES, OpcodeRefused

_CLASS_WEIGHT = 16
CALL_WEIGHT = 64
_TUPLE_WEIGHT = 8
"""What a class, the call of one, and a tuple count in the expansion: more than their opcodes have,
as it takes time to hash, compare and copy them."""

OBJECT, ORDERED = -1, -2
"""Where no opcode stands that makes a mapping: `Mapping.at` of an object, and of an ordered one."""

NUMBER_BYTES = 10
"""The largest opcode of a number whose hash few others share: an integer of eight bytes."""


class Node:
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
        self.refers_to: frozenset[Node] = _NOTHING

    def add(self, items: Iterable[Item]) -> None:
        """Put into it what stood on the stack."""
        references: set[Node] = set()
        for item in items:
            if isinstance(item, int):
                self.weight += item if item >= 0 else -item
                continue
            if isinstance(item, Mark):
                raise OpcodeRefused("a mark in the middle of something")
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
            raise OpcodeRefused(f"containers stand more than {MAX_DEPTH} deep in each other")

    def shared(self) -> Shared:
        """Return what the memo gives for it."""
        refers_to = self.refers_to
        if refers_to:
            refers_to = frozenset(one for one in refers_to if one.is_open or one.is_cyclic)
            if any(one.is_cyclic for one in refers_to):
                raise OpcodeRefused("a part that refers back to its whole stands elsewhere as well")
        if self.is_open and self.is_changeable:
            refers_to |= {self}
        return self.weight, self.depth, refers_to, self

    def _refer_to(self, references: set[Node]) -> None:
        self.is_cyclic = self.is_cyclic or self in references
        # What was put into the same container is complete by now, and was a neighbour.
        references.update(self.refers_to)
        self.refers_to = frozenset(
            one for one in references if one is not self and (one.is_open or one.is_cyclic)
        )
        if len(self.refers_to) > MAX_REFERENCES:
            raise OpcodeRefused("too many references to what is not complete yet")


class List(Node):
    """Knows how many it has: it may become a set."""

    __slots__ = ("members", "numbers", "runs")

    def __init__(self) -> None:
        super().__init__()
        self.members = 0
        self.numbers = 0
        """Of these, the ones that are neither text nor bytes."""
        self.runs: list[bytes] | None = None
        """Plain data in it that is not counted yet."""


class Tuple(Node):
    """Knows what it has alone: it may be the argument of a call."""

    __slots__ = ("only",)

    is_changeable = False

    def __init__(self) -> None:
        super().__init__(_TUPLE_WEIGHT)
        self.only: Node | None = None


class Mapping(Node):
    """Knows its keys. An object may be one, too."""

    __slots__ = ("at", "numbers", "strange", "strange_bytes")

    def __init__(self, weight: int, at: int) -> None:
        super().__init__(weight)
        self.at = at
        """Where its opcode stands; `ORDERED` for an ordered one, and `OBJECT`."""
        self.numbers = 0
        """Keys that are neither text nor bytes."""
        self.strange = 0
        """Of these, the ones that are no small numbers, and their weight."""
        self.strange_bytes = 0


_NOTHING: frozenset[Node] = frozenset()


class Mark:
    """The opcode MARK on the stack."""

    __slots__ = ()


THE_MARK = Mark()


class Class:
    """A class on the stack, and its opcode."""

    __slots__ = ("_may_be_value", "name")

    def __init__(self, name: bytes, may_be_value: bool) -> None:
        self.name = name
        self._may_be_value = may_be_value

    def check_as_value(self) -> None:
        """Refuse it where no call follows, unless it may stand there."""
        if not self._may_be_value:
            name = self.name[1:-1].replace(b"\n", b".").decode("utf-8", "replace")
            raise OpcodeRefused(f"{name} itself stands in it as a value")


Shared = tuple[int, int, frozenset[Node], Node]
"""What the memo gave: weight, depth, what it refers to, and itself. It is not added to any more."""

Item = int | Node | Shared | Class | Mark
"""What stands on the stack; plain data as its weight alone, below 0 if it is a number."""


def node_of(item: Item) -> Node | None:
    """Return the container or object that the item is, or that the memo gave."""
    if isinstance(item, tuple):
        return item[3]
    return item if isinstance(item, Node) else None


def key_bytes(item: Item) -> int:
    """0 for text, up to `NUMBER_BYTES` for a number, more for anything else."""
    if isinstance(item, int):
        return 0 if item >= 0 else -item
    weight = item[0] if isinstance(item, tuple) else item.weight if isinstance(item, Node) else 0
    return NUMBER_BYTES + weight
