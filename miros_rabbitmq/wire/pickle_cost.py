"""What it may cost to read a pickle: one budget of steps and memory for each, and the fixed limits.

`Budget` is all that `pickle_check` and `unpickler` share about a pickle. Whoever is about to do
work, or to have pickle do it, takes the steps and the memory for it first. So the time to read or
refuse a pickle is bounded whatever is in it, without a rule for each shape that would be slow.
"""

from __future__ import annotations

from .opcodes import OpcodeRefused

MAX_DEPTH = 100
"""Containers within containers. Python's recursion limit is 1000, and ``copy.deepcopy`` needs
several levels of it for each container."""

MAX_INTEGER_BYTES = 1_785
"""The longest integer, of 4,299 digits: Python refuses to print one of more than 4,300."""

MAX_EXPANDED_BYTES = 16 * 1024 * 1024
"""The largest weight of a value, or twice the bytes of the pickle if that is more. A payload that
shares nothing stays far below: `Limits.event_bytes` is 1 MiB by default."""

MAX_STEPS = 800_000
"""The most steps for a pickle of up to `USUAL_BYTES`; for a larger one, in proportion. A step is
the work for one opcode, and takes some 0.15 us."""

MAX_MEMORY_BYTES = 32 * 1024 * 1024
"""The most memory that loading a pickle of up to `USUAL_BYTES` may take; for a larger one, in
proportion."""

USUAL_BYTES = 1024 * 1024
"""The default of `Limits.event_bytes`."""

MAX_NUMBER_KEYS = 12_000
"""The most keys of one mapping that are neither text nor bytes; a set may have twice as many such
members. Hashes of text and bytes differ in each process, but those of numbers are known: a sender
can choose numbers so that each is put off by half of those before it. Then 12,000 take 0.1 s to
become a mapping, and the time grows with the square of their count."""

SQUARES_PER_STEP = MAX_NUMBER_KEYS**2 // (MAX_STEPS * 9 // 10)
"""How many pairs of keys count as one step: a mapping of `MAX_NUMBER_KEYS` takes most of a
budget."""


class Budget:
    """The steps and the memory that are left for one pickle.

    Args:
        size: of the pickle, in bytes.
    """

    def __init__(self, size: int) -> None:
        larger = max(size, USUAL_BYTES) / USUAL_BYTES
        self.steps: int = int(MAX_STEPS * larger)
        self._memory_limit = int(MAX_MEMORY_BYTES * larger)
        self.memory: int = self._memory_limit
        self._step_limit = self.steps
        self._squares = 0

    def take_steps(self, count: int) -> None:
        """Take steps.

        Raises:
            OpcodeRefused: so many are not left.
        """
        self.steps -= count
        if self.steps < 0:
            raise OpcodeRefused(f"to read it would take more than {self._step_limit:,} steps")

    def take_memory(self, count: int) -> None:
        """Take bytes of memory.

        Raises:
            OpcodeRefused: so many are not left.
        """
        self.memory -= count
        if self.memory < 0:
            raise OpcodeRefused(f"it would take more than {self._memory_limit:,} bytes of memory")

    def take_squares(self, squares: int) -> None:
        """Take the steps for keys that are neither text nor bytes.

        Args:
            squares: the square of their count in one mapping, or a quarter of it for a set.

        Raises:
            OpcodeRefused: so many are not left.
        """
        self._squares += squares
        steps, self._squares = divmod(self._squares, SQUARES_PER_STEP)
        self.steps -= steps
        if self.steps < 0:
            raise OpcodeRefused(
                f"more than {MAX_NUMBER_KEYS:,} keys of mappings, or {2 * MAX_NUMBER_KEYS:,} "
                "members of sets, are neither text nor bytes: put them into a list, or into a list "
                "of pairs"
            )
