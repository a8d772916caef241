"""One lookout for the nodes of a process that look for the same brokers, with the same login.

Two nodes share one if everything that decides whom a search finds is equal: see `Scope`. The first
starts it, and it ends with the last. A node that comes after that starts another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..process import Stage, disown_in_child
from .lookout import Lookout
from .search import Search
from .subscriber import Subscriber


class Scope(NamedTuple):
    """What decides whom a search finds: nodes for which any of it differs share none.

    Attributes:
        search: whom to look for, where, with which login, and which announcements count.
        folder: the working directory: the hosts file and the cache are there.
    """

    search: Search
    folder: Path


class Lookouts:
    """The lookouts that run in this process. Any thread may call any method.

    A scope, and so a password and a context for TLS, is kept for as long as a node uses it.
    """

    def __init__(self) -> None:
        self.disown()
        disown_in_child(self, Stage.NETWORKS)

    def disown(self) -> None:
        """Forget them in a forked child, where their threads do not exist."""
        # Held while one is made and its thread started, and never while a follower is called.
        # Reentrant, as a handler of `logging` that gets a line of ours may stop another chart.
        self._lock = threading.RLock()
        self._running: dict[Scope, Lookout] = {}

    def present(self, scope: Scope) -> Lookout | None:
        """The one that runs for a scope now, if there is one."""
        with self._lock:
            return self._running.get(scope)

    def join(
        self,
        scope: Scope,
        subscriber: Subscriber,
        make: Callable[[], Lookout],
        keep: Callable[[Lookout], object],
    ) -> None:
        """Have a subscriber follow what is found; its node is shown the present members at once.

        Args:
            scope: what to look for.
            subscriber: the node's.
            make: makes a lookout, if none runs yet. What it raises is raised here.
            keep: called with the lookout before the subscriber joins it, so that whatever is raised
                here, such as KeyboardInterrupt, the subscriber can `leave`.

        Raises:
            OutOfResources: a thread cannot be started.
        """
        with self._lock:
            lookout = self._running.get(scope)
            is_new = lookout is None
            if lookout is None:
                lookout = make()
            keep(lookout)
            lookout.subscribe(subscriber)
            if is_new:
                lookout.start()
                self._running[scope] = lookout

    def move(
        self,
        scope: Scope,
        subscriber: Subscriber,
        former: Lookout,
        make: Callable[[], Lookout],
        keep: Callable[[Lookout], object],
    ) -> None:
        """Have a subscriber follow another lookout, as what its node looks for has changed.

        The node gives no broker up for that.

        Args:
            scope: what to look for.
            subscriber: the node's.
            former: what it has followed so far.
            make: makes a lookout that begins with what the former knows, if no other does.
            keep: called with the lookout, once it runs.

        Raises:
            OutOfResources: a thread cannot be started. The subscriber still follows the former.
        """
        with self._lock:
            lookout = self._running.get(scope)
            if lookout is former:
                return
            is_new = lookout is None or not former.members <= lookout.members
            if lookout is None or is_new:
                lookout = make()
            try:
                lookout.subscribe(subscriber)
                if is_new:
                    lookout.start()
                    self._running.setdefault(scope, lookout)
                keep(lookout)
            except BaseException:
                self._unsubscribe(lookout, subscriber)
                raise
            self._unsubscribe(former, subscriber)
            lookout.subscribe(subscriber)  # the former may have shown something after the first

    def leave(self, lookout: Lookout, subscriber: Subscriber, timeout_s: float) -> bool:
        """Have a subscriber follow nothing more. With the last one, the lookout ends.

        Args:
            lookout: what it has joined.
            subscriber: the node's. Nothing happens if it has left already.
            timeout_s: for how long to wait for the lookout's thread, if it ends.

        Returns:
            False if the thread has not ended in time.
        """
        with self._lock:
            if self._unsubscribe(lookout, subscriber):
                return True
        return lookout.wait_for_end(timeout_s)

    def _unsubscribe(self, lookout: Lookout, subscriber: Subscriber) -> bool:
        """Do it, with the lock; tells whether others follow the lookout, which goes on then."""
        if lookout.unsubscribe(subscriber):
            return True
        for scope, running in list(self._running.items()):
            if running is lookout:
                del self._running[scope]
        return False


lookouts: Lookouts = Lookouts()
"""Those of this process."""
