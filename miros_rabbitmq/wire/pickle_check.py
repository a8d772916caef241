"""Checks the opcodes of a pickle before it is loaded.

`pickle.Unpickler` asks its ``find_class`` about classes, and asks about nothing else. It takes an
extension code that the program has used before, a memo index of four thousand million, or nested
tuples that have two to the power of fifty elements once they are hashed; each fits into a hundred
bytes. So this module looks at every opcode first. It allows the opcodes that Python's own pickler
writes for protocol 3, used as that pickler uses them, and of these only what stays within limits:

    memo        values are put into it in the order of its index
    lengths     texts and bytes end within the pickle; integers have at most `MAX_INTEGER_BYTES`
    depth       containers are nested at most `MAX_DEPTH` deep
    expansion   with every shared part written out in each place where it is used, the pickle would
                have at most `MAX_EXPANDED_BYTES`: this limits what is compared, copied or printed
    steps       one `Budget` pays for each opcode, for the hashes of keys and for what calls do
    memory      the same `Budget` has a limit of what loading takes
    keys        if many keys of mappings are of unusual kinds, the caller is told where these are
    cycles      a list or a mapping may contain itself; an object of a registered class may also be
                in its own parts. What these were by then cannot be used again
    texts       no text has half of a surrogate pair, which nobody can print or encode

A small event that shares no container passes by one regular expression, in about a microsecond.
Everything else is walked opcode by opcode, except that numbers, texts and reads of the memo are
taken many at a time.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection
from typing import NamedTuple

from .opcodes import (
    CONTAINERS,
    GET,
    HALF_PAIR,
    HEAD,
    LONG,
    MAY_READ,
    MAY_SHARE,
    NUMBER,
    NUMBERS,
    PIECE,
    SMALL,
    SMALL_TOKENS,
    STOP,
    TEXT,
    TOKENS,
    OpcodeRefused,
    TextRefused,
    check_texts,
)
from .payload_types import HARMLESS
from .pickle_cost import MAX_DEPTH, MAX_EXPANDED_BYTES, MAX_INTEGER_BYTES, Budget

SMALL_BYTES = 1_024
SMALL_LEVELS = MAX_DEPTH
"""The most bytes, and opcodes that nest, of a small pickle. Whatever its opcodes are, it stays
within the limits of depth and expansion: each level takes an opcode, and it shares no container."""
# Python finds a method through a name of this module faster than through an imported one.
_may_read, _may_share = MAY_READ.findall, MAY_SHARE.findall

FEW_KEYS = 2_000_000
"""The most unusual keys whose hashes need no look: their count times their bytes, summed over all
mappings. Even if all these hashes are equal, Python compares each with each in less than 0.1 s."""

NUMBER_BYTES = 10
"""The bytes of the largest opcode for a number that counts as usual: an integer of eight bytes. Few
others share its hash. A key is unusual if it is neither text, nor bytes, nor such a number."""

# Steps.

_CONTAINER_STEPS, _PAIR_STEPS, _GROUP_STEPS = 2, 2, 3
_REFERENCE_STEPS = 6
_CALL_STEPS = 8
_HASHED_PER_STEP = 64
"""What is taken beyond the step for each token: for a new container, for a pair that is put into a
mapping, for other groups, for what is read while it is open, for a call, and for the weight of keys
and of arguments, as these are hashed, compared and copied."""

# Memory, in bytes.

_PLAIN_TIMES = 12
"""For each byte of the pickle: a number whose opcode has three bytes takes 28, and 8 more for its
place in a list."""
_CONTAINER = 112
"""More than an empty list, mapping or tuple takes, or a `Node`, with its places."""
_FIRST_PAIR, _PAIR, _ORDERED_PAIR = 60, 48, 130
"""What a mapping takes, beyond its empty self, for its first pair, and for each further one."""

_TUPLE_WEIGHT, _CLASS_WEIGHT, _CALL_WEIGHT = 16, 32, 64
"""Twice as many bytes as each counts for: more than the opcodes have, as these values take time to
compare and to copy."""


class Findings(NamedTuple):
    """What the opcodes of a pickle tell."""

    is_plain: bool
    """No opcode looks up a class, by name or by number, or calls one."""
    needs_key_check: bool = False
    """So many keys of mappings are neither text, nor bytes, nor small numbers that somebody has to
    look at their hashes before any mapping is made."""
    mappings: tuple[int, ...] = ()
    """Which of the opcodes that make a mapping make these, counted from 1."""
    budget: Budget | None = None
    """What is left for loading it; None if it is so small that nothing has been taken."""


_PLAIN_ALONE = Findings(is_plain=True)
_OBJECTS_TOO = Findings(is_plain=False)


def check_opcodes(
    data: bytes, *, registered: Collection[bytes] = (), shares: int | None = None
) -> Findings:
    """Look at every opcode of a pickle; may be called from any thread.

    Args:
        data: the pickle.
        registered: the classes that may be values; each given as the opcode that looks it up, with
            its argument.
        shares: how often a pickle of this payload reads the memo if no class is a value in it; a
            small pickle that reads it more often is walked, and the walk refuses the class. With
            None, as on receipt, a small pickle may have a class as a value.

    Raises:
        OpcodeRefused: it is not a pickle of protocol 3 as our writer makes it, or goes beyond a
            limit.
    """
    if (
        len(data) <= SMALL_BYTES
        and len(data) - len(data.translate(None, CONTAINERS)) <= SMALL_LEVELS
        and not (b"\xed" in data and HALF_PAIR.search(data))
        # Only the walk sees whether opcodes add to a Counter what it may not count with.
        and b"\nCounter\n" not in data
        and (small := SMALL.fullmatch(data)) is not None
    ):
        if small.lastindex is None:
            return _PLAIN_ALONE
        if not _shares_container(data):
            if small.start(2) < 0:
                return _PLAIN_ALONE
            if shares is None or _shares_of(data) <= shares:
                return _OBJECTS_TOO
    if not data.startswith(HEAD):
        raise OpcodeRefused(
            "not a pickle of protocol 3: has its sender another serializer than this node?"
        )
    walk = Walk(data, registered)
    try:
        walk.run()
    except IndexError:
        raise OpcodeRefused(
            "it ends too early, or takes more from the stack or the memo than is there"
        ) from None
    return walk.findings()


def _shares_container(data: bytes) -> bool:
    """Whether a small pickle may read a container or an object from the memo."""
    return not set(_may_share(data)).isdisjoint(_may_read(data))


def _shares_of(data: bytes) -> int:
    return sum(token[0] == GET for token in SMALL_TOKENS.findall(data, len(HEAD)))


class Node:
    """A container or an object on the stack or in the memo; by default, a tuple."""

    # Without a constructor, as a pickle can have hundreds of thousands of them.

    takes: bytes = b""
    """The opcodes that add to it while it is open."""
    weight = _TUPLE_WEIGHT
    """Twice the bytes of its opcodes if each shared part were written out wherever it is."""
    depth = 1
    index = -1
    """Where the memo has it."""
    state = 0
    """0 if it is complete; `_OPEN` if it is on the stack, so that opcodes may add to it; 1 more for
    each time that it was also read from the memo since it last grew."""


_OPEN = 1


class _Reference(Node):
    """What a read of the memo gives of a container that may be open."""

    def __init__(self, to: Node) -> None:
        self.weight, self.depth, self.index = to.weight, to.depth, to.index
        self.to = to


class _List(Node):
    takes = b"ae"
    weight = 2
    state = _OPEN


class _Mapping(Node):
    takes = b"su"
    weight = 2
    state = _OPEN

    number = 0
    """The how many-th mapping of the pickle it is; 0 for an object."""
    keys: _Keys | None = None
    """Its keys, if some are neither text nor bytes."""


class _Object(_Mapping):
    weight = _CALL_WEIGHT

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.takes = _ADDS_TO.get(name, b"aesub")


class _Keys:
    """The keys of one mapping that are neither text nor bytes."""

    __slots__ = ("count", "unusual", "unusual_bytes")

    def __init__(self) -> None:
        self.count = 0
        self.unusual = 0
        self.unusual_bytes = 0
        """The unusual ones of these (see `NUMBER_BYTES`): their count, and their weight."""


class _Class:
    """A class on the stack.

    Args:
        name: the opcode that looks it up, with its argument.
        may_be_value: whether a payload may hold the class itself.
    """

    def __init__(self, name: bytes, may_be_value: bool) -> None:
        self.name = name
        self._may_be_value = may_be_value

    def check_as_value(self) -> None:
        """Refuse the class where nothing calls it, unless it may be a value there."""
        if not self._may_be_value:
            name = self.name[1:-1].replace(b"\n", b".").decode("utf-8", "replace")
            raise OpcodeRefused(f"the class {name} itself is in it as a value")


_Item = int | Node | _Class
"""What is on the stack. Plain data is there as twice the bytes of its opcode, plus 1 for a number,
so that a sum of items is a weight."""

_ADDS_TO: dict[bytes, bytes] = {
    f"c{cls.__module__}\n{cls.__qualname__}\n".encode(): b"" for cls in HARMLESS
} | {b"ccollections\ndeque\n": b"ae", b"ccollections\nOrderedDict\n": b"su"}
"""The opcodes that add to objects of the standard classes. To others, all of them do."""

_NUMBERS = frozenset(b"NKMJG\x88\x89\x8a")
_TEXTS = {ord("X"): 5, ord("C"): 2}
"""The opcodes of short texts and bytes, and how many bytes are before the content."""
_GROUPS = frozenset(b"esu")
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3, ord("t"): 0}
"""The opcodes that make a tuple, and how many items they take; 0 for all down to the mark."""

_LARGE_INTEGER = 0x8B
_OUT_OF_ORDER = "what it puts into the memo is out of order"


class Walk:
    """One pass over the opcodes of one pickle, in place of the machine that would load it.

    It has that machine's stack and memo, with weights in place of values.

    Args:
        data: the pickle.
        registered: see `check_opcodes`.
    """

    def __init__(self, data: bytes, registered: Collection[bytes] = ()) -> None:
        self._data = data
        self._registered = registered
        self._stack: list[_Item] = []
        self._marks: list[int] = []
        """The heights of the stack at which marks stand."""
        self._memo: list[_Item] = []
        self._used_up_from: list[int] = []
        self._used_up_to: list[int] = []
        """Ranges of the memo that were in an object when a part of it referred back to it. Their
        weights do not count all that they contain, as that object has grown since."""
        self._limit = 2 * max(MAX_EXPANDED_BYTES, 2 * len(data))
        self._mappings = 0
        self._unusual = 0
        self._unusual_mappings: set[int] = set()
        self._is_plain = True
        self.budget: Budget = Budget(len(data))
        self.budget.take_memory(_PLAIN_TIMES * len(data))

    def findings(self) -> Findings:
        """Return what was found, after `run`."""
        if self._unusual <= FEW_KEYS:
            return Findings(self._is_plain, budget=self.budget)
        return Findings(self._is_plain, True, tuple(sorted(self._unusual_mappings)), self.budget)

    def run(self) -> None:
        """Look at every opcode.

        Raises:
            OpcodeRefused: our writer makes no such opcode, or it goes beyond a limit.
            IndexError: the pickle ends too early, or takes more from the stack than is there.
        """
        data = self._data
        at = len(HEAD)
        while True:
            piece = PIECE.match(data, at)
            if piece is not None:
                tokens = TOKENS.findall(data, at, piece.end())
                if HALF_PAIR.search(data, at, piece.end()):
                    self.budget.take_steps(len(tokens) // 2)
                    check_texts(tokens)
                self._take_tokens(tokens)
                at = piece.end()
                continue
            opcode = data[at]
            if opcode == STOP:
                break
            if opcode not in LONG:
                raise OpcodeRefused(
                    f"the opcode {opcode:#04x} at byte {at} is not allowed, or too short"
                )
            self.budget.take_steps(1)
            at = self._take_long(at)
        stack = self._stack
        if at + 1 != len(data) or len(stack) != 1 or self._marks:
            raise OpcodeRefused("something is left over when it ends")
        if isinstance(top := stack[0], _Class):
            top.check_as_value()
        elif isinstance(top, Node):
            self._add(top, [])  # what was added as a single item has not been compared with limits

    def _take_tokens(self, tokens: list[bytes]) -> None:
        # What is frequent in ordinary payloads stands here, without a call for each token.
        stack, memo, marks = self._stack, self._memo, self._marks
        steps, memory = len(tokens), 0
        for token in tokens:
            opcode = token[0]
            if opcode == 0x68:  # h
                item = memo[token[1]]
                stack.append(item if type(item) is int else self._get(token[1]))
            elif opcode in _NUMBERS:
                stack.append(2 * len(token) + 1)
            elif opcode in _TEXTS:
                size = token[1] + _TEXTS[opcode]
                stack.append(2 * size)
                if len(token) > size:
                    if int.from_bytes(token[size + 1 :], "little") != len(memo):
                        raise OpcodeRefused(_OUT_OF_ORDER)
                    memo.append(2 * size)
            elif opcode == 0x28:  # (
                marks.append(len(stack))
                if len(token) > 1:
                    steps += _GROUP_STEPS
                    self._take_numbers(token)
            elif opcode == 0x5D or opcode == 0x7D:  # ] or }
                node: Node
                if opcode == 0x5D:
                    node = _List()
                else:
                    node = _Mapping()
                    node.number = self._mappings = self._mappings + 1
                steps += _CONTAINER_STEPS
                memory += _CONTAINER
                stack.append(node)
                if len(token) > 1:
                    if int.from_bytes(token[2:], "little") != len(memo):
                        raise OpcodeRefused(_OUT_OF_ORDER)
                    node.index = len(memo)
                    memo.append(node)
            elif opcode == 0x61:  # a
                item, target = stack.pop(), stack[-1]
                if type(item) is int and type(target) is _List and target.state == _OPEN:
                    target.weight += item
                else:
                    steps += 1
                    self._add(self._target(opcode), [item])
            elif (
                opcode == 0x73  # s
                and type(item := stack[-1]) is int
                and type(key := stack[-2]) is int
                and not key & 1
                and type(mapping := stack[-3]) is _Mapping
                and mapping.state == _OPEN
            ):
                steps += _PAIR_STEPS
                memory += _PAIR if mapping.weight > 2 else _PAIR + _FIRST_PAIR
                mapping.weight += key + item
                del stack[-2:]
            elif opcode in _GROUPS:
                steps += _GROUP_STEPS
                items = self._pop_items(len(stack) - 2 if opcode == 0x73 else marks.pop())
                target = self._target(opcode)
                if opcode == 0x65:
                    self._add(target, items)
                else:
                    self._add_pairs(target, items)
            elif opcode in _TUPLES:
                steps += _CONTAINER_STEPS
                memory += _CONTAINER
                begin = len(stack) - _TUPLES[opcode] if opcode != 0x74 else marks.pop()
                node = Node()
                self._add(node, self._pop_items(begin))
                stack.append(node)
                if len(token) > 1:
                    if int.from_bytes(token[2:], "little") != len(memo):
                        raise OpcodeRefused(_OUT_OF_ORDER)
                    node.index = len(memo)
                    memo.append(node)
            elif opcode == 0x29:  # ) and Python has only one empty tuple
                stack.append(2)
            elif opcode in b"qr":
                self._put(token[1:])
            elif opcode == 0x6A:  # j
                stack.append(self._get(int.from_bytes(token[1:], "little")))
            elif opcode == 0x63:  # c
                self._is_plain = False
                stack.append(_Class(token, token in self._registered))
            elif opcode in b"R\x81":
                self._call(token)
            else:  # b
                item = stack.pop()
                self._add(self._target(opcode), [item])
        self.budget.take_steps(steps)
        self.budget.take_memory(memory)

    def _pop_items(self, begin: int) -> list[_Item]:
        """Take what is on the stack from a height on, which has to be above the last mark."""
        stack, marks = self._stack, self._marks
        if begin < (marks[-1] if marks else 0) or begin > len(stack):
            raise IndexError
        items = stack[begin:]
        del stack[begin:]
        return items

    def _take_numbers(self, token: bytes) -> None:
        """Take the numbers behind a mark, with what puts them into a list or a tuple."""
        numbers = NUMBERS.match(token, 1)
        assert numbers is not None
        stack, size = self._stack, 2 * len(token)
        if numbers.end() == len(token):
            stack.extend([2 * len(number) + 1 for number in NUMBER.findall(token, 1)])
            self.budget.take_steps(len(token) // 8)
        elif self._marks.pop() and token[-1:] == b"e":
            self._add(self._target(token[-1]), [size])
        else:
            self._push(Node(), [size], b"t")

    def _take_long(self, at: int) -> int:
        """Push a text or bytes of any length, or a large integer; return where it ends."""
        data = self._data
        opcode = data[at]
        size = int.from_bytes(data[at + 1 : at + 5], "little")
        if opcode == _LARGE_INTEGER and size > MAX_INTEGER_BYTES:
            raise OpcodeRefused(f"an integer of {size:,} bytes at byte {at} is too large")
        end = at + 5 + size
        if end > len(data):
            raise OpcodeRefused(f"a length of {size:,} bytes at byte {at} is too large")
        if opcode == TEXT and HALF_PAIR.search(data, at + 5, end):
            raise TextRefused
        self._stack.append(2 * (end - at) + (opcode == _LARGE_INTEGER))
        return end

    def _push(self, node: Node, items: list[_Item], token: bytes) -> None:
        """Push a new value of these items, and put it into the memo, if the token says so."""
        self._add(node, items)
        self.budget.take_memory(_CONTAINER)
        self._stack.append(node)
        if len(token) > 1:
            self._put(token[2:])

    def _put(self, index: bytes) -> None:
        memo = self._memo
        if int.from_bytes(index, "little") != len(memo):
            raise OpcodeRefused(_OUT_OF_ORDER)
        item = self._stack[-1]
        if isinstance(item, Node):
            if item.index >= 0:
                raise OpcodeRefused("it puts into the memo what is there already")
            item.index = len(memo)
        memo.append(item)

    def _get(self, index: int) -> _Item:
        """Return what a read of the memo pushes."""
        item = self._memo[index]
        if not isinstance(item, Node):
            return item
        place = bisect(self._used_up_from, index)
        if place and index < self._used_up_to[place - 1]:
            raise OpcodeRefused("a part of something that contains itself is used again after that")
        if not item.state:
            return item
        # It is complete, or an opcode to come adds to it. Then this reference ends up inside of it.
        item.state += 1
        self.budget.take_steps(_REFERENCE_STEPS)
        return _Reference(item)

    def _target(self, opcode: int) -> Node:
        """Return what an opcode adds to."""
        node = self._stack[-1]
        if not isinstance(node, Node) or not node.state or opcode not in node.takes:
            raise OpcodeRefused(f"the opcode {chr(opcode)!r} adds to something that takes nothing")
        return node

    def _contain_itself(self, node: Node, items: list[_Item]) -> None:
        """Judge what a node takes that was itself read from the memo since it last grew."""
        inner = node.state - _OPEN
        for item in items:
            if isinstance(item, _Reference) and item.to is node:
                item.weight, item.depth = 2, 0  # whoever goes over it stops there
                inner -= 1
        node.state = _OPEN
        if not inner:
            return
        if not isinstance(node, _Object) or node.name not in self._registered:
            raise OpcodeRefused(
                "a part refers back to the whole, which only objects of allowed_classes let their "
                "parts do"
            )
        begins, ends = self._used_up_from, self._used_up_to
        while begins and begins[-1] > node.index:
            begins.pop()
            ends.pop()
        begins.append(node.index + 1)
        ends.append(len(self._memo))

    def _add(self, node: Node, items: list[_Item]) -> None:
        if node.state > _OPEN:
            self._contain_itself(node, items)
        weight, depth = node.weight, node.depth
        for item in items:
            if type(item) is int:
                weight += item
            elif isinstance(item, Node):
                item.state = 0
                weight += item.weight
                if item.depth >= depth:
                    depth = item.depth + 1
            else:
                assert isinstance(item, _Class)
                item.check_as_value()
                weight += _CLASS_WEIGHT
        node.weight, node.depth = weight, depth
        if weight > self._limit:
            raise OpcodeRefused(
                "with its shared parts written out it would have more than "
                f"{self._limit // 2:,} bytes"
            )
        if depth > MAX_DEPTH:
            raise OpcodeRefused(f"containers are nested more than {MAX_DEPTH} deep")

    def _add_pairs(self, node: Node, items: list[_Item]) -> None:
        assert isinstance(node, _Mapping)
        pairs = len(items) // 2
        if not node.number:
            self.budget.take_memory(_ORDERED_PAIR * pairs)
        else:
            self.budget.take_memory(_PAIR * pairs + (_FIRST_PAIR if node.weight == 2 else 0))
        numbers = unusual = unusual_bytes = hashed = 0
        for key in items[::2]:
            if type(key) is int:
                if not key & 1:
                    continue
                size = key >> 1
            elif isinstance(key, Node):
                hashed += key.weight
                size = NUMBER_BYTES + key.weight // 2
            else:
                size = 0
            numbers += 1
            if size > NUMBER_BYTES:
                unusual += 1
                unusual_bytes += size
        if numbers:
            # The square of old and new keys together, less the square of the old, counted before.
            keys = node.keys = node.keys or _Keys()
            self.budget.take_squares(numbers * (numbers + 2 * keys.count))
            self.budget.take_steps(hashed // _HASHED_PER_STEP)
            keys.count += numbers
            self._unusual -= keys.unusual * keys.unusual_bytes
            keys.unusual += unusual
            keys.unusual_bytes += unusual_bytes
            self._unusual += keys.unusual * keys.unusual_bytes
            if keys.unusual > 1 and node.number:
                self._unusual_mappings.add(node.number)
        self._add(node, items)

    def _call(self, token: bytes) -> None:
        function, arguments = self._pop_items(len(self._stack) - 2)
        if not isinstance(function, _Class):
            raise OpcodeRefused("it calls something that is not a class")
        self._is_plain = False
        weight = arguments.weight if isinstance(arguments, Node) else 0
        self.budget.take_steps(_CALL_STEPS + weight // _HASHED_PER_STEP)
        self._push(_Object(function.name), [arguments], token)
