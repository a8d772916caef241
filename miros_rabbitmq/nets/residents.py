"""Which charts of this process listen at which broker: they need no notices to know each other.

Any thread may call everything here, with any lock: nothing waits.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Protocol

from ..process import Stage, disown_in_child


class Resident(Protocol):
    """A chart that listens."""

    name: str
    """The chart's."""
    rx_key: str
    """The pattern that it listens to; empty to leave that open."""

    @property
    def place(self) -> Hashable:
        """The broker where it listens, and what else tells who understands whom there."""

    @property
    def announced_at(self) -> Hashable:
        """The place where it was announced since it listens; `None` if it was at none."""

    def note_neighbour(self) -> object:
        """Note that another one begins to listen at the same place."""

    def note_told(self) -> object:
        """Note that another one has announced itself to all charts at its place."""


class Residents:
    """Those of one process."""

    def __init__(self) -> None:
        # Each step is one of a dict, so that no lock is needed. Weak, as a thread that was left
        # behind tells nobody that its chart has gone.
        self._all: dict[int, weakref.ref[Resident]] = {}
        disown_in_child(self, Stage.NETWORKS)

    def enter(self, one: Resident) -> None:
        """Note that one begins to listen, and tell the others at its place."""
        key = id(one)
        if key in self._all:
            return

        def forget(_: object) -> None:
            self._all.pop(key, None)

        self._all[key] = weakref.ref(one, forget)
        for other in self.beside(one):
            other.note_neighbour()

    def leave(self, one: Resident) -> None:
        """Note that one has ceased to listen."""
        self._all.pop(id(one), None)

    def beside(self, one: Resident) -> list[Resident]:
        """The others at its place, in the order in which they came."""
        place = one.place
        others = [reference() for reference in list(self._all.values())]
        return [
            other
            for other in others
            if other is not None and other is not one and other.place == place
        ]

    def speak_for(self, one: Resident) -> bool:
        """Tell whether another has announced at its place what it would announce.

        That is its pattern, and its name if another has the same: each then hears of the other.
        """
        others, place = self.beside(one), one.place
        return all(other.name != one.name for other in others) and any(
            other.rx_key == one.rx_key and other.announced_at == place is not None
            for other in others
        )

    def disown(self) -> None:
        """Forget those of the parent, in a forked child."""
        self._all.clear()


residents: Residents = Residents()
"""Those of this process."""
