"""Which senders of a network get what is posted, and what becomes of the rest when that changes.

Of several senders whose addresses lead to the same broker or cluster, one is posted to and the
others are spares. When a spare takes over, it gets what the former one has not confirmed, in order,
before any new post. Receivers discard what comes twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from ..delivery.intake import Record
from ..urls import Address


class Redirected(Protocol):
    """What is used of a sender."""

    def hand_over(self) -> list[Record]:
        """Give away what waits and what is unconfirmed, in order."""

    def backlog(self) -> list[Record]:
        """What waits and what is unconfirmed, in order."""

    def take_over(self, records: Sequence[Record]) -> None:
        """Send records before all that wait."""


S = TypeVar("S", bound=Redirected)


class Redirection:
    """Follows which senders are spares. Used with the lock under which a network posts."""

    def __init__(self) -> None:
        self.spare_of: Mapping[Address, Address] = {}
        """The spares, and the address that is used in place of each. Replaced as a whole."""
        # The number of the network's first post that each sender's broker was given.
        self._since: dict[Address, int] = {}

    def add(self, address: Address, posted: int) -> None:
        """Note a new sender, which gets all further posts.

        Args:
            address: its broker.
            posted: how many posts the network has made so far.
        """
        self._since[address] = posted

    def remove(self, address: Address) -> None:
        """Forget a sender that is gone."""
        self._since.pop(address, None)
        # Another broker may be there later.
        self.spare_of = {spare: to for spare, to in self.spare_of.items() if spare != address}

    def posted_to(self, senders: Mapping[Address, S]) -> tuple[S, ...]:
        """Those of the senders that get what is posted."""
        return tuple(senders[address] for address in self._used(self.spare_of, senders))

    def share(
        self,
        spare_of: Mapping[Address, Address],
        senders: Mapping[Address, Redirected],
        posted: int,
    ) -> None:
        """Follow a change of the spares, and move what waits.

        Args:
            spare_of: the spares from now on, and what is used in place of each.
            senders: all senders of the network.
            posted: how many posts the network has made so far.
        """
        before, self.spare_of = self.spare_of, dict(spare_of)
        was_used = self._used(before, senders)
        is_used = self._used(self.spare_of, senders)
        handed_over: dict[Address, list[Record]] = {}
        for address in is_used:
            former = before.get(address, address)
            if address in was_used or former not in senders:
                continue
            if former in is_used:
                # That address leads elsewhere now: its sender keeps all for the broker there.
                records = senders[former].backlog()
                self._since[address] = posted - len(records)
            else:
                # Several may follow one, if their addresses do not lead to the same any more.
                if former not in handed_over:
                    handed_over[former] = senders[former].hand_over()
                records = handed_over[former]
                self._since[address] = self._since[former]
            senders[address].take_over(records)
        for address in was_used:
            if address not in is_used and address not in handed_over:
                self._give_up(address, self.spare_of[address], senders, posted)

    def replace(
        self,
        before: Address,
        now: Address,
        senders: Mapping[Address, Redirected],
        posted: int,
        *,
        is_reached: bool,
    ) -> None:
        """Have one address take the place of another, and move what waits.

        Args:
            before: the address that will be removed; it may be a spare already.
            now: what stands for it from now on; it may be new, or have been there before.
            senders: all senders of the network, those two among them.
            posted: how many posts the network has made so far.
            is_reached: the second one leads to a broker already. Otherwise what waits there waits
                for the broker of the first, which had it.
        """
        used = self.spare_of.get(now, now)
        if used == now and not is_reached:
            self._give_up(now, before, senders, posted)
            self._since[now] = posted
        if used == before:
            used = now
        spare_of = {
            spare: used if target == before else target
            for spare, target in self.spare_of.items()
            if spare != used
        }
        spare_of.setdefault(before, used)
        self.share(spare_of, senders, posted)

    def _give_up(
        self, address: Address, used: Address, senders: Mapping[Address, Redirected], posted: int
    ) -> None:
        """Empty a sender whose broker gets all posts by another: they wait there, or came by it.

        Only what was posted before the other one was added has to go there.
        """
        backlog = senders[address].hand_over()
        older = backlog[: max(0, len(backlog) - (posted - self._since[used]))]
        if older:
            self._since[used] = min(self._since[used], self._since[address])
            senders[used].take_over(older)

    @staticmethod
    def _used(
        spare_of: Mapping[Address, Address], senders: Mapping[Address, object]
    ) -> list[Address]:
        return [address for address in senders if spare_of.get(address) not in senders]
