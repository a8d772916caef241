"""Decides which signal names are accepted from the network, and how many new ones.

miros's registry of signals keeps every name until the process ends. So the number of names that
others may add to it is limited.
"""

from __future__ import annotations

import sys

from miros import signals

from ..exceptions import MessageRejected, RejectReason
from ..wire.envelope import MOST_NAME
from . import registry

INNER_SIGNALS = frozenset(list(signals)[: signals.highest_inner_signal])
"""The signals by which miros drives a chart: never sent, and never accepted from the network."""

_added = 0


def check_name(name: str) -> None:
    """Check that a text may travel as the name of a signal.

    Raises:
        MessageRejected: it may not; carries the reason.
    """
    if name in INNER_SIGNALS:
        raise MessageRejected(RejectReason.INNER_SIGNAL, name)
    if not 0 < len(name) <= MOST_NAME or not name.isprintable():
        raise MessageRejected(RejectReason.SIGNAL_NAME)


def admit_name(name: str, limit: int) -> str:
    """Add a name from the network to the registry, if it is new. Any thread may call this.

    Args:
        name: a name that `check_name` has passed.
        limit: the most names that this function adds before the process ends.

    Returns:
        the same text, as the object to use: miros compares names by identity when it cancels
        events.

    Raises:
        MessageRejected: the limit is reached.
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
