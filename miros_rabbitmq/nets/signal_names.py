"""The names of signals that come from the network: which are taken, and how many.

Each one that is new to this process is kept for its life, in miros's registry of signals, so their
number is bounded.
"""

from __future__ import annotations

import sys

from miros import signals

from ..exceptions import MessageRejected, RejectReason
from . import registry

MAX_NAME = 255
"""Characters of a signal's name."""

INNER_SIGNALS = frozenset(list(signals)[: signals.highest_inner_signal])
"""The signals by which miros drives a chart: never sent, and never accepted from the network."""

_added = 0


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
    """See that a name from the network is registered; from any thread.

    Args:
        name: the name, which `check_name` has passed.
        limit: most names that this function adds in the life of this process.

    Returns:
        the name as it is known: miros compares names by identity when it cancels events.

    Raises:
        MessageRejected: with the reason.
    """
    global _added
    name = sys.intern(name)
    if name not in signals:
        with registry.lock:
            if name not in signals:
                if _added >= limit:
                    raise MessageRejected(RejectReason.TOO_MANY_SIGNALS, f"the limit is {limit:,}")
                signals.append(name)
                _added += 1
    return name
