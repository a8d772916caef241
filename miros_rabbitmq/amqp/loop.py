"""pika's I/O loop, with a lock that lets a second thread use the connection for a moment.

pika is not thread-safe: its objects belong to the thread that runs the loop. That thread spends
nearly all of its life waiting in the poller, and uses the connection only in what the loop calls
back. Here each of these calls holds a lock. Whoever holds it instead has the connection for
itself, and may write to it without waking the loop's thread first, which takes several times as
long as the writing.

What may be called with the lock by another thread is little: see `connection.write`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pika.adapters.select_connection import IOLoop


class LockedLoop(IOLoop):  # type: ignore[misc]  # pika has no type hints
    """An `IOLoop` whose callbacks, timers and handlers of file descriptors hold a lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held during each call from the loop; try to take it, and never wait for it."""
        super().__init__()

    def add_handler(self, fd: int, handler: Callable[[int, int], None], events: int) -> None:
        """Watch a file descriptor; the handler is called with the lock held."""

        def locked(fd: int, events: int) -> None:
            with self.lock:
                handler(fd, events)

        super().add_handler(fd, locked, events)

    def process_timeouts(self) -> None:
        """Call what was asked for and what is due, with the lock held."""
        with self.lock:
            super().process_timeouts()
