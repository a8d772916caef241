"""A walk over the opcodes of a pickle, in place of the machine that would load it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

from .opcode_bounds import MAX_EXPANDED_BYTES, MAX_INTEGER_BYTES, OpcodeRefused
from .opcode_grammar import (
    APPENDS,
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
    STOP,
    TEXT_OPCODES,
    TOKEN_BYTES,
    TUPLE,
)
from .opcode_memo import Memo
from .opcode_nodes import (
    CALL_WEIGHT,
    OBJECT,
    ORDERED,
    THE_MARK,
    Class,
    Item,
    List,
    Mapping,
    Node,
    Tuple,
    key_bytes,
    node_of,
)
from .opcode_tally import ORDERED_NAME, Tally

_SHORT_RUN = 1_024
"""The first of many records is no longer than this: it is worth to know exactly how long its texts
are that the others share."""

_TAKES_NOTHING = "something is put into what cannot take it"


class Walk:
    """One pass over one pickle, with the stack and the memo of the machine that would load it."""

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
        """No opcode has looked a class up, or called one."""

    def run(self) -> None:
        """Look at every opcode.

        Raises:
            OpcodeRefused: one is not taken, or goes beyond a bound.
            IndexError: the pickle ends too soon, or takes more from the stack than is there.
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
                    raise OpcodeRefused(f"the opcode {opcode:#04x} at {at}")
                step(self)

    def _check_end(self) -> None:
        stack = self._stack
        if self._at + 1 != len(self._data) or len(stack) != 1 or stack[0] is THE_MARK:
            raise OpcodeRefused("something is left over at its end")
        if isinstance(stack[0], Class):
            stack[0].check_as_value()

    def _skip_run(self) -> None:
        """Take plain data and the opcode that puts all of it into one container, in one step."""
        data, light = self._data, self._memo.light
        begin = end = self._at
        while (piece := RUN.match(data, end)) is not None:
            end = piece.end()
        if end == begin or (opcode := data[end]) not in b"etu":
            return
        run = data[begin:end]
        # An "h" may be a letter of a text, and a "q": then this looks more exactly than it has to,
        # or takes a text for a longer one.
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

    # Each of these is one opcode; they leave the place where the next begins.

    def _list(self) -> None:
        self.tally.take_container()
        self._stack.append(List())
        self._at += 1

    def _mapping(self) -> None:
        self.tally.take_container()
        self._stack.append(Mapping(1, self._at))
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
        return size + TOKEN_BYTES

    def _text(self) -> None:
        self._stack.append(self._counted(4))

    def _long_integer(self) -> None:
        self._stack.append(-self._counted(4, MAX_INTEGER_BYTES))

    def _global(self) -> None:
        token = ONE_GLOBAL.match(self._data, self._at)
        if token is None:
            raise OpcodeRefused(f"no name of a class at {self._at}")
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
            raise OpcodeRefused(f"it shares its parts to more than {self._limit:,} bytes")

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
        # Of a class that is not registered: the reader refuses it at this place, by its name.
        self._has_objects = True
        self._call()

    def _state(self) -> None:
        if not self._has_objects:
            raise OpcodeRefused("the state of an object, where no classes are registered")
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
    """What each opcode does to stack and memo; an opcode that is not listed is refused."""
