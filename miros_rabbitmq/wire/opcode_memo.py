"""The memo of the machine that would load a pickle, by what each entry weighs."""

from __future__ import annotations

from collections.abc import Iterable

from .opcode_bounds import OpcodeRefused
from .opcode_grammar import TOKEN_BYTES
from .opcode_nodes import Class, Item, Mark, Node


class Memo:
    """What a pickle has put into the memo.

    Args:
        largest: the largest index that is taken.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._items: dict[int, int | Class | Node] = {}
        self._weighty: set[bytes] = set()
        self.light = [TOKEN_BYTES] * 256
        """What is at an index of one byte: of a small text, its bytes."""

    def put(self, index: int, stack: list[Item]) -> None:
        """Remember what stands on top of the stack."""
        if index > self._largest:
            raise OpcodeRefused(f"the memo index {index:,}")
        item = stack[-1]
        if isinstance(item, (Mark, tuple)):
            raise OpcodeRefused("a memo of what is none of its own")
        self._items[index] = item
        if index < 256:
            if isinstance(item, int) and 0 <= item <= TOKEN_BYTES:
                self.light[index] = item
            else:
                self._weighty.add(bytes([index]))

    def get(self, index: int) -> Item:
        """Return what is shared, as it stands on the stack."""
        item = self._items.get(index)
        if item is None:
            return self.light[index] if index < 256 else TOKEN_BYTES
        if isinstance(item, int):
            # A run may have put a text in its place, of up to so many bytes.
            return max(item, TOKEN_BYTES) if item >= 0 else min(item, -TOKEN_BYTES)
        return item if isinstance(item, Class) else item.shared()

    def are_light(self, indices: Iterable[bytes]) -> bool:
        """Whether small texts alone are there; each index as its byte."""
        return self._weighty.isdisjoint(indices)
