"""Measures the memory that pickles of many objects take, for `test_pickle_check`.

Run as ``python -m tests.unit.wire.loading`` in a process of its own: what earlier tests have left
to Python would be counted, too.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from miros_rabbitmq.wire import pickle_cost
from miros_rabbitmq.wire.opcodes import HEAD, OpcodeRefused
from miros_rabbitmq.wire.pickle_check import Walk
from miros_rabbitmq.wire.pickle_cost import MAX_MEMORY_BYTES
from miros_rabbitmq.wire.pickling import RestrictedPickle
from miros_rabbitmq.wire.unpickler import RestrictedUnpickler

MANY: dict[str, bytes] = {
    "lists": b"(" + b"]" * 9_000 + b"t",
    "mappings": b"(" + b"}" * 9_000 + b"t",
    "mappings of one pair": b"(" + b"}NNs" * 4_000 + b"t",
    "tuples": b"(" + b"K\x01\x85" * 9_000 + b"t",
    "tuples in tuples": b"(" + (b"N" + b"\x85" * 90) * 100 + b"t",
    "deques": b"(ccollections\ndeque\nq\x00)R" + b"h\x00)R" * 4_000 + b"t",
    "ordered mappings": b"(ccollections\nOrderedDict\nq\x00)R" + b"h\x00)R" * 5_000 + b"t",
    "sets": b"(cbuiltins\nset\nq\x00](NK\x01e\x85q\x01R" + b"h\x00h\x01R" * 3_000 + b"t",
    "counters": b"(ccollections\nCounter\nq\x00}(NK\x01u\x85q\x01R" + b"h\x00h\x01R" * 4_000 + b"t",
    "dates": b"(cdatetime\ndate\nq\x00C\x04\x07\xea\x0b\x16\x85q\x01R"
    + b"h\x00h\x01R" * 9_000
    + b"t",
}

BOUND = 1_000_000
"""Less memory than any of these takes, in bytes."""


def peak_of(load: Callable[[], object]) -> int:
    """The most bytes that are taken meanwhile."""
    tracemalloc.start()
    try:
        load()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(data: bytes) -> tuple[int, int, int]:
    """What loading takes, what is counted for it, and what it takes until it is refused."""
    restricted = RestrictedPickle()
    restricted.loads(data)
    walk = Walk(data)
    walk.run()
    if not walk.findings().is_plain:
        RestrictedUnpickler(data, {}, walk.budget).load()
    counted = MAX_MEMORY_BYTES - walk.budget.memory
    taken = peak_of(lambda: restricted.loads(data))
    usual = pickle_cost.MAX_MEMORY_BYTES

    def refused() -> None:
        with suppress(OpcodeRefused):
            RestrictedPickle().loads(data)
            raise AssertionError("it is not refused")

    pickle_cost.MAX_MEMORY_BYTES = BOUND
    try:
        return taken, counted, peak_of(refused)
    finally:
        pickle_cost.MAX_MEMORY_BYTES = usual


if __name__ == "__main__":
    print(json.dumps({name: measure(HEAD + data + b".") for name, data in MANY.items()}))
