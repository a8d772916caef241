"""When a node follows a change of this machine's address to its own broker.

Pure: what the machine has at present is handed in, again and again.
"""

from __future__ import annotations

from typing import NamedTuple

from .interfaces import Interface, LinkKind

_MOST_LEFT = 4
"""The most former addresses that are remembered."""


class Here(NamedTuple):
    """Where this machine is at one moment."""

    interface: Interface
    """The one that leads to the LAN."""
    addresses: frozenset[str]
    """All IPv4 addresses at which the machine reaches itself."""


class OwnAddress:
    """The address that is used as this machine's, until it is time to use another.

    If the address is gone, another one of the same interface is used at once, as a DHCP server may
    have given it. So is the first address of a machine that had none. For everything else two looks
    have to agree: a cable that is out for a moment, or an interface that is set up step by step,
    shall not make a node go to and fro.

    Args:
        here: where the machine is at the start.
    """

    def __init__(self, here: Here) -> None:
        self._interface = here.interface
        self._seen = here.interface
        self.left: tuple[str, ...] = ()
        """The addresses that were used before and that the machine does not have any more, the
        latest first."""

    @property
    def address(self) -> str:
        """The address that is used."""
        return self._interface.address

    def is_gone(self, here: Here) -> bool:
        """Whether the machine has the address no more. It always has a loopback."""
        is_alone = self._interface.kind is LinkKind.LOOPBACK
        return not is_alone and self.address not in here.addresses

    def look(self, here: Here) -> Interface | None:
        """Look again.

        Returns:
            the interface whose address is to be used now; `None` if it is the present one.
        """
        new, seen, self._seen = here.interface, self._seen, here.interface
        if new.address == self.address:
            self._interface = new
            return None
        is_alone = self._interface.kind is LinkKind.LOOPBACK
        is_renewed = self.is_gone(here) and new.device == self._interface.device
        return new if is_alone or is_renewed or new == seen else None

    def use(self, here: Here) -> None:
        """Use the address of the interface that leads to the LAN now."""
        left = (self.address, *self.left) if self.is_gone(here) else self.left
        self.left = tuple(one for one in left if one not in here.addresses)[:_MOST_LEFT]
        self._interface = here.interface
