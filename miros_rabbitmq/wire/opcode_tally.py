"""What a pickle would take when it is loaded: memory, and the time to compare keys."""

from __future__ import annotations

from .opcode_bounds import MAX_MEMORY_BYTES, MAX_NUMBER_KEYS, OpcodeRefused
from .opcode_grammar import LARGE_INTEGER, TEXT_KEYS, TEXT_OR_SHARE_OPCODES, TOKENS
from .opcode_nodes import NUMBER_BYTES, ORDERED, List, Mapping, Node

ORDERED_NAME = b"ccollections\nOrderedDict\n"
_COUNTER_NAME = b"ccollections\nCounter\n"
_SET_NAMES = (b"cbuiltins\nset\n", b"cbuiltins\nfrozenset\n")

_PLAIN_TIMES = 12
"""A number of three bytes takes 28 when it is read, and 8 for the place in its list."""
_CONTAINER = 144
"""More than an empty list, mapping or tuple takes, or a `Node`."""
_FIRST_PAIR, _PAIR, _BYTE_OF_PAIRS = 104, 48, 8
"""What a pair takes in a mapping besides; in a run of plain data, for each byte."""
_ORDERED_PAIR = 130
_MEMBER = 110
"""Of a set, just after it has grown."""
_OBJECTS = {
    b"ccollections\ndeque\n": 800,
    ORDERED_NAME: 240,
    _COUNTER_NAME: 240,
    **dict.fromkeys(_SET_NAMES, 240),
}
"""What an empty one takes; of all others, what they hold counts, and `_CONTAINER`."""

FEW_KEYS = 2_000_000
"""Keys of mappings that are neither text, bytes nor a small number, times their bytes: up to here,
whatever their hashes are, it takes less than 0.1 s to compare each with each."""


class Tally:
    """Counts what one pickle takes; each method raises `OpcodeRefused` beyond a bound.

    Args:
        size: of the pickle.
    """

    def __init__(self, size: int) -> None:
        self.memory = _PLAIN_TIMES * size
        self._memory_limit = max(MAX_MEMORY_BYTES, 40 * size)
        self._number_squares = 0
        self._strange = 0
        self._strange_at: set[int] = set()

    @property
    def has_strange_keys(self) -> bool:
        """So many that the hashes of the keys have to be looked at."""
        return self._strange > FEW_KEYS

    def strange_at(self) -> tuple[int, ...]:
        """Where the opcodes of the mappings stand that have several; not of ordered ones."""
        return tuple(sorted(at for at in self._strange_at if at >= 0))

    def take_container(self) -> None:
        """An empty list, mapping or tuple."""
        self._take(_CONTAINER)

    def take_pairs(self, node: Mapping, count: int) -> None:
        """So many more in a mapping; before their weight is added to it."""
        if node.at == ORDERED:
            self._take(_ORDERED_PAIR * count)
        else:
            self._take(_PAIR * count + (_FIRST_PAIR if node.weight == 1 else 0))

    def take_keys(self, node: Mapping, sizes: list[int]) -> None:
        """The keys of pairs, each by its `key_bytes`."""
        numbers = len(sizes) - sizes.count(0)
        if numbers:
            strange = [size for size in sizes if size > NUMBER_BYTES]
            self._take_number_keys(node, numbers, len(strange), sum(strange))

    def take_run_of_pairs(self, node: Mapping, run: bytes) -> None:
        """Plain data alone: all the pairs that one opcode puts into a mapping."""
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
        """An object of a class, made from this alone, or from something else."""
        self._take(_OBJECTS.get(name, _CONTAINER))
        if isinstance(argument, List) and name in _SET_NAMES:
            self._take_members(argument)
        elif isinstance(argument, Mapping) and name == _COUNTER_NAME:
            self._take(_BYTE_OF_PAIRS * argument.weight)
            self._take_squares(argument.numbers * argument.numbers)

    def _take_members(self, source: List) -> None:
        """Of a list that becomes a set."""
        for run in source.runs or ():
            tokens = TOKENS.findall(run)
            source.members += len(tokens)
            source.numbers += sum(token[0] not in TEXT_OR_SHARE_OPCODES for token in tokens)
        source.runs = None
        self._take(_MEMBER * source.members)
        self._take_squares(source.numbers * source.numbers // 4)

    def _take_number_keys(
        self, node: Mapping, count: int, strange: int, strange_bytes: int
    ) -> None:
        # The square of both together, less the square of those that were counted before.
        self._take_squares(count * (count + 2 * node.numbers))
        node.numbers += count
        if strange:
            self._strange -= node.strange * node.strange_bytes
            node.strange += strange
            node.strange_bytes += strange_bytes
            self._strange += node.strange * node.strange_bytes
            if node.strange > 1:
                self._strange_at.add(node.at)

    def _take(self, memory: int) -> None:
        self.memory += memory
        if self.memory > self._memory_limit:
            raise OpcodeRefused(f"it would take more than {self._memory_limit:,} bytes of memory")

    def _take_squares(self, squares: int) -> None:
        self._number_squares += squares
        if self._number_squares > MAX_NUMBER_KEYS**2:
            raise OpcodeRefused(
                f"more than {MAX_NUMBER_KEYS:,} keys of mappings, or {2 * MAX_NUMBER_KEYS:,} "
                "members of sets, are neither text nor bytes; a list, of pairs too, may have them"
            )
