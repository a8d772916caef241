"""Checks the opcodes of a pickle before it is loaded.

`pickle.Unpickler` asks its ``find_class`` about classes, and asks about nothing else. It takes an
extension code that the program has used before, a memo index of four thousand million, or nested
tuples that have two to the power of fifty elements once they are hashed; each fits into a hundred
bytes. So this module looks at every opcode first. It allows the opcodes that Python's own pickler
writes for protocol 3, and of these only what stays within limits:

    memo        an index is not larger than the pickle has bytes
    lengths     texts and bytes end within the pickle; integers have at most `MAX_INTEGER_BYTES`
    depth       containers are nested at most `MAX_DEPTH` deep
    expansion   with every shared part written out in each place where it is used, the pickle would
                have at most `MAX_EXPANDED_BYTES`: this limits what is hashed, copied or printed
    memory      loading takes at most `MAX_MEMORY_BYTES`
    keys        mappings and sets have at most `MAX_NUMBER_KEYS` that are neither text nor bytes; if
                many keys are of unusual kinds, the caller is told where their mappings are
    cycles      a value may contain itself, but no part that refers back to it may also be used
                outside of it

A small event passes by one regular expression, in about a microsecond. Everything else is walked
opcode by opcode, except that a run of plain data is one step. The expressions are in `opcodes`; the
limits, and what the walk counts, are in `pickle_cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar, NamedTuple

from .opcodes import (
    APPENDS,
    CONTAINERS,
    GET,
    HEAD,
    MARK,
    ONE_GLOBAL,
    ONE_PLAIN,
    PLAIN_OPCODES,
    PUT,
    RUN,
    SETITEMS,
    SHARE,
    SMALL,
    SMALL_PLAIN,
    SMALL_TOKENS,
    STOP,
    TEXT_OPCODES,
    TOKEN_BYTES,
    TUPLE,
    OpcodeRefused,
)
from .pickle_cost import (
    CALL_WEIGHT,
    MAX_DEPTH,
    MAX_EXPANDED_BYTES,
    MAX_INTEGER_BYTES,
    OBJECT,
    ORDERED,
    ORDERED_NAME,
    THE_MARK,
    Class,
    Item,
    List,
    Mapping,
    Memo,
    Node,
    Tally,
    Tuple,
    key_bytes,
    node_of,
)

SMALL_BYTES = 1_024
SMALL_LEVELS = MAX_DEPTH
SMALL_SHARES = 16
"""The most bytes, opcodes that nest, and reads of the memo of a small pickle. Whatever its opcodes
are, it stays within the limits of depth and expansion: each level takes an opcode, and each read of
the memo doubles the weight at most."""
# Python finds a method through a name of this module faster than through an imported one.
_match_small_plain, _match_small = SMALL_PLAIN.fullmatch, SMALL.fullmatch

_SHORT_RUN = 1_024
"""A run of up to so many bytes is taken token by token if it puts texts into the memo. The first of
many records is no longer; the others share its texts, so their exact lengths matter."""

_TAKES_NOTHING = "it adds to something that is not a container"


class Findings(NamedTuple):
    """What the opcodes of a pickle tell."""

    is_plain: bool
    """No opcode looks up a class, by name or by number, or calls one."""
    needs_key_check: bool = False
    """So many keys of mappings are neither text, nor bytes, nor small numbers that somebody has to
    look at their hashes before any mapping is made."""
    mappings_at: tuple[int, ...] = ()
    """The offsets of the opcodes that make these mappings, except for ordered mappings."""


_PLAIN_ALONE = Findings(is_plain=True)
_OBJECTS_TOO = Findings(is_plain=False)


def check_opcodes(
    data: bytes, *, registered: Collection[bytes] = (), shares: int | None = None
) -> Findings:
    """Look at every opcode of a pickle; may be called from any thread.

    Args:
        data: the pickle.
        registered: the classes that may be values, and whose objects may have a state; each given
            as the opcode that looks it up, with its argument.
        shares: how often a pickle of this payload reads the memo if no class is a value in it; a
            small pickle that reads it more often is walked, and the walk refuses the class. With
            None, as on receipt, a small pickle may have a class as a value.

    Raises:
        OpcodeRefused: it is not a pickle of protocol 3 as our writer makes it, or goes beyond a
            limit.
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
        raise OpcodeRefused(
            "not a pickle of protocol 3: has its sender another serializer than this node?"
        )
    walk = Walk(data, registered)
    try:
        walk.run()
    except IndexError:
        raise OpcodeRefused(
            "it ends too early, or takes more from the stack than is there"
        ) from None
    if not walk.tally.needs_key_check:
        return _PLAIN_ALONE if walk.is_plain else _OBJECTS_TOO
    return Findings(walk.is_plain, needs_key_check=True, mappings_at=walk.tally.mappings_at())


def _shares_of(data: bytes) -> int:
    return sum(token[0] == GET for token in SMALL_TOKENS.findall(data, len(HEAD)))


class Walk:
    """One pass over the opcodes of one pickle, in place of the machine that would load it.

    It has that machine's stack and memo, with weights in place of values (see `pickle_cost`).

    Args:
        data: the pickle.
        registered: see `check_opcodes`.
    """

    def __init__(self, data: bytes, registered: Collection[bytes] = ()) -> None:
        self._data = data
        self._registered = registered
        self._has_objects = bool(registered)
        self._stack: list[Item] = []
        self._memo = Memo(len(data))
        self._at = len(HEAD)
        self._limit = max(MAX_EXPANDED_BYTES, 2 * len(data))
        self.tally = Tally(len(data))
        self.is_plain = True
        """So far no opcode has looked up a class or called one."""

    def run(self) -> None:
        """Look at every opcode.

        Raises:
            OpcodeRefused: our writer makes no such opcode, or it goes beyond a limit.
            IndexError: the pickle ends too early, or takes more from the stack than is there.
        """
        data, stack, light = self._data, self._stack, self._memo.light
        match_plain = ONE_PLAIN.match
        while True:
            at = self._at
            opcode = data[at]
            if opcode in PLAIN_OPCODES:
                token = match_plain(data, at)
                if token is not None:
                    end = self._at = token.end()
                    if put := token[1]:
                        light[put[0]] = end - at
                    stack.append(end - at if opcode in TEXT_OPCODES else at - end)
                    continue
            if opcode == MARK:
                stack.append(THE_MARK)
                self._at = at + 1
                self._skip_run()
            elif opcode == STOP:
                self._check_end()
                return
            else:
                step = self.STEPS.get(opcode)
                if step is None:
                    raise OpcodeRefused(f"the opcode {opcode:#04x} at byte {at} is not allowed")
                step(self)

    def _check_end(self) -> None:
        stack = self._stack
        if self._at + 1 != len(self._data) or len(stack) != 1 or stack[0] is THE_MARK:
            raise OpcodeRefused("something is left over when it ends")
        if isinstance(stack[0], Class):
            stack[0].check_as_value()

    def _skip_run(self) -> None:
        """Take a run in one step, with the opcode that puts all of it into one container.

        A run is plain data and reads of the memo, between MARK and that opcode. Where there is
        none, this does nothing, and `run` goes on opcode by opcode.
        """
        data, light = self._data, self._memo.light
        begin = end = self._at
        while (piece := RUN.match(data, end)) is not None:
            end = piece.end()
        if end == begin or (opcode := data[end]) not in b"etu":
            return
        run = data[begin:end]
        # The letters "h" and "q" inside a text look like opcodes, too. At worst the run is then
        # taken token by token without need, or a text in the memo counts as longer than it is.
        shares = SHARE.findall(run)
        puts = PUT.findall(run)
        self._at = end
        if (puts and len(run) <= _SHORT_RUN) or not self._memo.are_light(shares):
            self._push_exactly(run)
            return
        for (index,) in puts:
            light[index] = TOKEN_BYTES
        stack = self._stack
        stack.pop()
        if opcode == TUPLE:
            self.tally.take_container()
            stack.append(Tuple())
        node = stack[-1]
        if not isinstance(node, Node):
            raise OpcodeRefused(_TAKES_NOTHING)
        if opcode == APPENDS:
            if isinstance(node, List):
                node.runs = node.runs or []
                node.runs.append(run)
        elif opcode == SETITEMS:
            if not isinstance(node, Mapping):
                raise OpcodeRefused(_TAKES_NOTHING)
            self.tally.take_run_of_pairs(node, run)
        self._weigh(node, len(run) + sum(map(light.__getitem__, b"".join(shares))))
        self._at = end + 1

    def _push_exactly(self, run: bytes) -> None:
        stack, light, at = self._stack, self._memo.light, 0
        while at < len(run):
            if run[at] == GET:
                stack.append(self._memo.get(run[at + 1]))
                at += 2
            else:
                token = ONE_PLAIN.match(run, at)
                assert token is not None
                end = token.end()
                stack.append(end - at if run[at] in TEXT_OPCODES else at - end)
                if put := token[1]:
                    light[put[0]] = end - at
                at = end

    # One step for each opcode. A step sets `_at` to where the next opcode begins.

    def _list(self) -> None:
        self.tally.take_container()
        self._stack.append(List())
        self._at += 1

    def _mapping(self) -> None:
        self.tally.take_container()
        self._stack.append(Mapping(1, self._at))
        self._at += 1

    def _nothing(self) -> None:
        self._stack.append(1)  # Python has only one empty tuple, so it takes no memory
        self._at += 1

    def _counted(self, size_bytes: int, limit: int | None = None) -> int:
        begin = self._at + 1 + size_bytes
        size = int.from_bytes(self._data[self._at + 1 : begin], "little")
        if begin + size > len(self._data) or (limit is not None and size > limit):
            raise OpcodeRefused(f"a length of {size:,} bytes at byte {self._at} is too large")
        self._at = begin + size
        return size + TOKEN_BYTES

    def _text(self) -> None:
        self._stack.append(self._counted(4))

    def _long_integer(self) -> None:
        self._stack.append(-self._counted(4, MAX_INTEGER_BYTES))

    def _global(self) -> None:
        token = ONE_GLOBAL.match(self._data, self._at)
        if token is None:
            raise OpcodeRefused(f"a malformed name of a class at byte {self._at}")
        self.is_plain = False
        self._stack.append(Class(token[0], token[0] in self._registered))
        self._at = token.end()

    def _put(self) -> None:
        self._memo.put(self._data[self._at + 1], self._stack)
        self._at += 2

    def _long_put(self) -> None:
        self._memo.put(self._long_index(), self._stack)
        self._at += 5

    def _get(self) -> None:
        self._stack.append(self._memo.get(self._data[self._at + 1]))
        self._at += 2

    def _long_get(self) -> None:
        self._stack.append(self._memo.get(self._long_index()))
        self._at += 5

    def _long_index(self) -> int:
        return int.from_bytes(self._data[self._at + 1 : self._at + 5], "little")

    def _to_mark(self) -> list[Item]:
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is THE_MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise IndexError

    def _append_marked(self) -> None:
        self._put_items(self._to_mark())

    def _append_one(self) -> None:
        self._put_items([self._stack.pop()])

    def _put_items(self, items: list[Item]) -> None:
        node = self._put_into(items)
        if isinstance(node, List):
            node.members += len(items)
            node.numbers += sum(not isinstance(item, int) or item < 0 for item in items)
        self._at += 1

    def _set_marked(self) -> None:
        self._put_pairs(self._to_mark())

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put_pairs([key, value])

    def _put_pairs(self, items: list[Item]) -> None:
        node = self._stack[-1]
        if not isinstance(node, Mapping):
            raise OpcodeRefused(_TAKES_NOTHING)
        keys = [key_bytes(item) for item in items[::2]]
        self.tally.take_pairs(node, len(keys))
        self._add(node, items)
        self.tally.take_keys(node, keys)
        self._at += 1

    def _put_into(self, items: list[Item]) -> Node:
        node = self._stack[-1]
        if not isinstance(node, Node):
            raise OpcodeRefused(_TAKES_NOTHING)
        self._add(node, items)
        return node

    def _add(self, node: Node, items: list[Item]) -> None:
        node.add(items)
        self._weigh(node, 0)

    def _weigh(self, node: Node, weight: int) -> None:
        node.weight += weight
        if node.weight > self._limit:
            raise OpcodeRefused(
                f"with its shared parts written out it would have more than {self._limit:,} bytes"
            )

    def _tuple(self) -> None:
        self._push_tuple(self._to_mark())

    def _short_tuple(self) -> None:
        count = self._data[self._at] - 0x84
        self._push_tuple([self._stack.pop() for _ in range(count)])

    def _push_tuple(self, items: list[Item]) -> None:
        self.tally.take_container()
        node = Tuple()
        self._add(node, items)
        if len(items) == 1:
            node.only = node_of(items[0])
        self._stack.append(node)
        self._at += 1

    def _call(self) -> None:
        self.is_plain = False
        arguments, function = self._stack.pop(), self._stack.pop()
        name = function.name if isinstance(function, Class) else b""
        held = node_of(arguments)
        self.tally.take_call(name, held.only if isinstance(held, Tuple) else None)
        node = Mapping(CALL_WEIGHT, ORDERED if name == ORDERED_NAME else OBJECT)
        self._add(node, [arguments] if isinstance(function, Class) else [arguments, function])
        self._stack.append(node)
        self._at += 1

    def _object(self) -> None:
        # Also of a class that is not registered: the unpickler refuses that by its name.
        self._has_objects = True
        self._call()

    def _state(self) -> None:
        if not self._has_objects:
            raise OpcodeRefused("it sets the state of an object, but no classes are registered")
        self.is_plain = False
        self._put_into([self._stack.pop()])
        self._at += 1

    STEPS: ClassVar[dict[int, Callable[[Walk], None]]] = {
        ord("]"): _list,
        ord("}"): _mapping,
        ord(")"): _nothing,
        ord("X"): _text,
        ord("B"): _text,
        0x8B: _long_integer,
        ord("c"): _global,
        ord("q"): _put,
        ord("r"): _long_put,
        ord("h"): _get,
        ord("j"): _long_get,
        ord("e"): _append_marked,
        ord("u"): _set_marked,
        ord("a"): _append_one,
        ord("s"): _set_one,
        ord("t"): _tuple,
        0x85: _short_tuple,
        0x86: _short_tuple,
        0x87: _short_tuple,
        ord("R"): _call,
        0x81: _object,
        ord("b"): _state,
    }
    """The step of each opcode that `run` does not take itself; any other opcode is refused."""
