"""A condition whose lock no exception from the handler of a signal can leave locked.

`threading.Condition` is written in Python. An exception such as KeyboardInterrupt may come when its
``__enter__`` has taken the lock and has not returned, and then nobody releases it. The lock itself
is written in C, and so is what ``with`` does with it.
"""

from __future__ import annotations

import threading


class Condition(threading.Condition):
    """A condition with a reentrant lock: take it as ``with condition.lock: ...``."""

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        """The lock."""
        super().__init__(self.lock)
