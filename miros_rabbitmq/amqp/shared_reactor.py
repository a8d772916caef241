"""One reactor for the links of several owners, such as the publishers of all charts of a process.

Each owner has a share of it, which looks like a reactor of its own. A reactor that is stuck is left
to those who use it already.

Any thread may call everything here.
"""

from __future__ import annotations

from collections.abc import Callable

from .reactor import Lane, Reactor


class SharedReactor:
    """The reactor that new shares use; its thread runs while any of them has a lane.

    Args:
        name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._present = Reactor(name)

    def present(self) -> Reactor:
        """The reactor; another one if the former is stuck."""
        if self._present.is_stuck:
            self._present = Reactor(self.name)
        return self._present


class Share:
    """What one owner has of a shared reactor; see `reactor.IoThread`.

    Args:
        shared: the reactor.
    """

    def __init__(self, shared: SharedReactor) -> None:
        self._shared = shared
        self._reactor = shared.present()
        self._lanes: set[Lane] = set()

    @property
    def name(self) -> str:
        """The thread's."""
        return self._reactor.name

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the reactor's thread."""
        return self._reactor.is_current_thread

    def attach(
        self,
        name: str,
        on_error: Callable[[BaseException], object],
        keep: Callable[[Lane | None], object],
    ) -> Lane:
        """Open a lane; see `Reactor.attach`."""
        # An owner stays in one thread, until it has left it.
        if not any(lane.is_open for lane in list(self._lanes)):
            self._reactor, self._lanes = self._shared.present(), set()
        lanes = self._lanes

        def keep_too(lane: Lane | None) -> None:
            if lane is not None:
                lanes.difference_update([one for one in list(lanes) if not one.is_open])
                lanes.add(lane)
            keep(lane)

        return self._reactor.attach(name, on_error, keep_too)

    def clock(self) -> float:
        """A monotonic time in seconds that stands still while the reactor cannot read."""
        return self._reactor.clock()

    def busy(self) -> str:
        """What the thread is doing, for the log; empty while it waits."""
        return self._reactor.busy()

    def wait_for_end(self, timeout: float) -> bool:
        """Wait until the own lanes have gone, and without any others, until the thread has ended.

        Args:
            timeout: the longest wait, in seconds.

        Returns:
            whether that is so; False, at once, in the thread itself.
        """
        return self._reactor.wait_for_others(list(self._lanes), timeout)
