"""The names of signals that come from the network, and the registry of signals they end up in.

miros numbers the signals of a process in one ordered mapping, ``miros.signals``, that only grows
and that every thread reads. Two threads that add to it at the same time can give two names one
number, and one that makes an event while another adds gets a ``RuntimeError``. As the thread of a
connection adds the names that others send, this module gives the registry a lock and iteration
over a copy; and it bounds how many names others can add.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from miros import signals

from .exceptions import MessageRejected, RejectReason

MAX_NAME = 255
"""Characters of a signal's name."""

INNER_SIGNALS = frozenset(list(signals)[: signals.highest_inner_signal])
"""The signals by which miros drives a chart: never sent, and never accepted from the network."""

_lock = threading.RLock()
_added = 0


class _GuardedSignals(type(signals)):  # type: ignore[misc]  # miros has no type hints
    """miros's registry, safe for threads that add to it and threads that go through it."""

    def append(self, string: str) -> None:
        with _lock:
            super().append(string)

    def items(self) -> Any:
        with _lock:
            return list(super().items())


# The registry is one object, which every module that uses miros has a reference to.
signals.__class__ = _GuardedSignals


def check_name(name: str) -> None:
    """Check that a signal's name may travel; its type is known to be text.

    Raises:
        MessageRejected: with the reason.
    """
    if name in INNER_SIGNALS:
        raise MessageRejected(RejectReason.INNER_SIGNAL, name)
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise MessageRejected(RejectReason.SIGNAL_NAME)


def admit_name(name: str, limit: int) -> str:
    """Check a name from the network, and see that it is registered; from any thread.

    Args:
        name: the name.
        limit: most names that this function adds in the life of this process.

    Returns:
        the name as it is known: miros compares names by identity when it cancels events.

    Raises:
        MessageRejected: with the reason.
    """
    global _added
    check_name(name)
    name = sys.intern(name)
    if name not in signals:
        with _lock:
            if name not in signals:
                if _added >= limit:
                    raise MessageRejected(RejectReason.TOO_MANY_SIGNALS, f"the limit is {limit:,}")
                signals.append(name)
                _added += 1
    return name
