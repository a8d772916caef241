"""How far a pickle may go before it is refused."""

from __future__ import annotations

import pickle

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

MAX_REFERENCES = 256
"""Within one container, to others that are not complete: their sets are copied at each step."""


class OpcodeRefused(pickle.UnpicklingError):
    """A pickle has an opcode, or a use of one, that our own writer does not make."""
