"""How many places the file descriptors of the process allow for brokers that nobody has named.

A member takes one descriptor on each network, so at most three. All nodes of a process together
give such members three eighths of the descriptors that the process may have, and a round of probes
takes an eighth, so that at least half is left to the program. Named brokers come first: they are
not counted here.
"""

from __future__ import annotations

import weakref

from ..resources import file_limit
from .places import Kind

DESCRIPTORS_EACH = 3
"""A connection of each of the three networks."""

_SHARE = 3 / 8
_OWN = 16
"""What a node has open besides: its own broker's connections, and what its threads need."""


class Allotment:
    """Divides the descriptors of a process among its nodes. Any thread may use it."""

    def __init__(self) -> None:
        self._nodes: weakref.WeakSet[object] = weakref.WeakSet()

    def join(self, node: object) -> None:
        """Note that a node begins."""
        self._nodes.add(node)

    def leave(self, node: object) -> None:
        """Note that a node has ended."""
        self._nodes.discard(node)

    def places(self, wanted: dict[Kind, int], files: int | None = None) -> dict[Kind, int]:
        """How many places each node may have, of those that it wants; at least one of each kind.

        Args:
            wanted: the node's limits.
            files: how many descriptors the process may have; by default, the system is asked.
        """
        files = file_limit() if files is None else files
        total = sum(wanted.values())
        if files is None or not total:
            return wanted
        share = files * _SHARE / max(1, len(self._nodes)) - _OWN
        most = int(share / DESCRIPTORS_EACH)
        if total <= most:
            return wanted
        return {kind: max(1, count * most // total) for kind, count in wanted.items()}


allotment: Allotment = Allotment()
"""That of this process."""
