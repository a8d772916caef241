"""Which addresses lead to the same broker or cluster, and which one of each such group is used.

Pure: how this is found out, and what follows from it, is for `spares`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ..urls import Address


@dataclass
class _Group:
    members: set[Address]
    used: Address


class BrokerGroups:
    """Groups of addresses; one that was never joined to another is a group of its own.

    Of each group one member is used and the others are spares. The used one stays until another is
    asked for, so that nothing goes to and fro. Not thread-safe.

    Args:
        rank: the place of an address among others of a group; the lowest comes first.
    """

    def __init__(self, rank: Callable[[Address], tuple[int, int]]) -> None:
        self._rank = rank
        self._groups: dict[Address, _Group] = {}

    @property
    def spare_of(self) -> dict[Address, Address]:
        """The spares, and the address that is used in place of each."""
        return {
            address: group.used for address, group in self._groups.items() if address != group.used
        }

    def used(self, address: Address) -> Address:
        """The address that is used in the group of an address."""
        group = self._groups.get(address)
        return address if group is None else group.used

    def mates(self, address: Address) -> frozenset[Address]:
        """The others of its group."""
        group = self._groups.get(address)
        return frozenset() if group is None else frozenset(group.members - {address})

    def join(self, address: Address, other: Address) -> bool:
        """Put the group of an address into that of another, whose used one stays used.

        Unless another than this address is used in the first group, and comes before that one by
        rank: then the address only shows that two that are in use lead to the same.

        Returns:
            whether they were two groups before.
        """
        into = self._of(other)
        group = self._of(address)
        if group is into:
            return False
        if group.used != address and self._rank(group.used) < self._rank(into.used):
            into.used = group.used
        into.members |= group.members
        for member in group.members:
            self._groups[member] = into
        return True

    def leave(self, address: Address, usable: Collection[Address] = ()) -> None:
        """Make an address a group of its own; if it was used, another of the rest is.

        Args:
            address: that of the broker.
            usable: the addresses to be preferred for the rest of the group.
        """
        group = self._groups.pop(address, None)
        if group is None:
            return
        group.members.discard(address)
        if address == group.used and group.members:
            group.used = self.best(group.members, usable)

    def use(self, address: Address) -> None:
        """Use an address instead of the others of its group."""
        self._of(address).used = address

    def outranks_used(self, address: Address) -> bool:
        """Whether an address comes before the one that is used instead of it."""
        return self._rank(address) < self._rank(self.used(address))

    def best(self, addresses: Iterable[Address], usable: Collection[Address] = ()) -> Address:
        """The first by rank, of those that are usable if there are any."""
        return min(addresses, key=lambda address: (address not in usable, self._rank(address)))

    def _of(self, address: Address) -> _Group:
        return self._groups.setdefault(address, _Group({address}, address))
